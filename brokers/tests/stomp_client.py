"""One visit of stomp.py to a broker: python3 stomp_client.py PORT VERSION BEAT [LOGIN PASSCODE].

VERSION is 1.0, 1.1 or 1.2; BEAT is the heart-beat both ways in milliseconds, 0 for none. Says "good" and
ends with 0 when everything was as the standard has it.
"""

import queue
import sys
import time

import stomp

PATIENCE = 30
DESTINATION = "/topic/connections"


class Heard(stomp.ConnectionListener):
    """Everything the broker says, in its order."""

    def __init__(self):
        self.frames = queue.Queue()

    def on_connected(self, frame):
        self.frames.put(frame)

    def on_message(self, frame):
        self.frames.put(frame)

    def on_receipt(self, frame):
        self.frames.put(frame)

    def on_error(self, frame):
        self.frames.put(frame)

    def on_disconnected(self):
        self.frames.put(None)

    def next(self, command):
        frame = self.frames.get(timeout=PATIENCE)
        assert frame is not None, f"closed, not {command}"
        assert frame.cmd == command, f"not {command}: {frame.cmd} {frame.headers} {frame.body!r}"
        return frame

    def end(self):
        frame = self.frames.get(timeout=PATIENCE)
        assert frame is None, f"not closed: {frame}"


def connect(port, version, beat, login, passcode):
    where = [("127.0.0.1", port)]
    # What comes may be late on a busy machine: the broker's absence is not what is tried here.
    beats = {"heartbeats": (beat, beat), "heart_beat_receive_scale": 20}
    common = {"auto_decode": False, "reconnect_attempts_max": 1}
    if version == "1.0":
        connection = stomp.Connection10(where, **common)
    elif version == "1.1":
        connection = stomp.Connection11(where, vhost="/", **common, **beats)
    else:
        connection = stomp.Connection12(where, vhost="/", **common, **beats)
    heard = Heard()
    connection.set_listener("heard", heard)
    connection.connect(login, passcode, wait=False)
    return connection, heard


def visit(port, version, beat, login, passcode):
    connection, heard = connect(port, version, beat, login, passcode)
    connected = heard.next("CONNECTED")
    assert connected.headers.get("version", "1.0") == version, connected.headers

    connection.subscribe(DESTINATION, id="7", ack="client-individual", headers={"receipt": "subscribed"})
    assert heard.next("RECEIPT").headers["receipt-id"] == "subscribed"

    odd = {"plain": "x"}
    if version != "1.0":
        odd = {"plain": "x", "colon": "a:b\\c\nd", "umlaut": "\u00fc"}
    body = "zero\0byte \u20ac".encode()
    connection.send(DESTINATION, body, content_type="text/x-test", headers=odd, receipt="sent")
    frames = {frame.cmd: frame for frame in (heard.frames.get(timeout=PATIENCE) for _ in range(2))}
    assert frames["RECEIPT"].headers["receipt-id"] == "sent"
    message = frames["MESSAGE"]
    assert message.body == body, message.body
    assert message.headers["destination"] == DESTINATION
    assert message.headers["content-type"] == "text/x-test"
    assert message.headers["subscription"] == "7"
    assert int(message.headers["content-length"]) == len(body)
    for name, value in odd.items():
        assert message.headers[name] == value, (name, message.headers)

    if version == "1.2":
        connection.ack(message.headers["ack"], receipt="acked")
    elif version == "1.1":
        connection.ack(message.headers["message-id"], "7", receipt="acked")
    else:
        connection.ack(message.headers["message-id"], receipt="acked")
    assert heard.next("RECEIPT").headers["receipt-id"] == "acked"

    if beat:
        # Longer than the broker bears silence.
        end = time.monotonic() + 3 * beat / 1000
        while time.monotonic() < end:
            assert connection.is_connected(), "gave up a broker that beats"
            time.sleep(beat / 10000)
        assert heard.frames.empty(), heard.frames.get()

    connection.unsubscribe(id="7") if version != "1.0" else connection.unsubscribe(DESTINATION, id="7")
    connection.send(DESTINATION, "nobody hears this", headers={}, receipt="last")
    assert heard.next("RECEIPT").headers["receipt-id"] == "last"
    connection.disconnect(receipt="gone")
    # stomp.py tells of the end before it tells of the receipt that made it close.
    last = [heard.frames.get(timeout=PATIENCE) for _ in range(2)]
    assert last.count(None) == 1, last
    assert [frame.headers["receipt-id"] for frame in last if frame] == ["gone"], last


def refused(port, version, login):
    """A wrong passcode, and a transaction where there are none: ERROR, then the end."""
    connection, heard = connect(port, version, 0, login, "wrong")
    error = heard.next("ERROR")
    assert "passcode" in error.headers["message"], error.headers
    heard.end()


def main():
    port, version, beat = int(sys.argv[1]), sys.argv[2], int(sys.argv[3])
    login, passcode = (sys.argv[4], sys.argv[5]) if len(sys.argv) > 4 else (None, None)
    visit(port, version, beat, login, passcode)
    if login:
        refused(port, version, login)
    print("good")


main()
