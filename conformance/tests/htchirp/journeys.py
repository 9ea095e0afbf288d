"""What HTCondor's Python client does with a server, one function a journey.

Called as `journeys.py NAME HOST PORT COOKIE DIRECTORY`: the journey's name, where the server is, the
cookie that it takes, and an empty directory to work in. A journey that ends without an exception was
a good one.
"""

import hashlib
import importlib.metadata
import os
import socket
import stat
import subprocess
import sys

import htchirp
from htchirp import HTChirp, condor_chirp

VERSION = "3.0"

# Names that need escapes, and some that need none but look as if they did.
NAMES = [
    "two words",
    "tab\there",
    "back\\slash",
    "trailing\\",
    "\\\\ \\",
    "carriage\rreturn",
    "per%20cent",
    "%2e%2e",
    "caf\u00e9 \u4e2d\u6587 \U0001f40d",
    "-rf",
    "#'\"<>|&;$(x)`y`*?[]{}~",
    "\x01\x1b\x7f",
    "n" * 255,
]


def journey_identity(place):
    with place.client() as chirp:
        who = chirp.whoami()
        assert who.startswith("unix:"), who
        # The whole file system of the server is this account's.
        assert stat.S_ISDIR(chirp.stat("/")["mode"])
        # Who the server is to a server, here to itself.
        assert chirp.whoareyou(f"{place.host}:{place.port}").startswith(("hostname:", "address:"))
    assert chirp.authentication == "cookie"
    # A client makes one connection to try the cookie and one for each `with`.
    for _ in range(20):
        with chirp:
            assert chirp.whoami() == who


def journey_login(place):
    refused(HTChirp.NotAuthenticated, HTChirp, place.host, place.port, cookie="wrong")
    refused(HTChirp.NotAuthenticated, HTChirp, place.host, place.port, cookie=place.cookie[1:])
    refused(HTChirp.NotAuthenticated, HTChirp, place.host, place.port, cookie=place.cookie + "0")
    # The right one, tried on a connection that had a wrong one.
    raw = socket.create_connection((place.host, place.port), timeout=30)
    with raw, raw.makefile("rb") as answers:
        raw.sendall(b"cookie wrong\n")
        assert answers.readline() == b"-1\n"
        raw.sendall(b"cookie %s\nversion\n" % place.cookie.encode())
        assert answers.readline() == b"0\n"
        assert answers.readline() == b"2\n"


def journey_no_cookie(place):
    """On a server without --cookie-file."""
    refused(HTChirp.NotAuthenticated, HTChirp, place.host, place.port, cookie=place.cookie)


def journey_configuration(place):
    """The server reads its cookie from the line that clients read."""
    config = place.local("chirp.config")
    with open(config, "w") as file:
        file.write(f"{place.host} {place.port} {place.cookie}\n")
    os.environ["_CONDOR_CHIRP_CONFIG"] = config
    with HTChirp() as chirp:
        chirp.write(b"by file", "/f", "wct")
    # The command line, which is condor_chirp's.
    local = place.local("fetched")
    assert command_line("fetch", "/f", local) == ""
    assert read(local) == b"by file"
    write(local, b"from the command line")
    assert command_line("put", "-perm", "600", local, "/two words") == ""
    assert command_line("put", "-mode", "wa", local, "/two words") == ""
    with HTChirp() as chirp:
        assert chirp.read("/two words", 100) == b"from the command line" * 2
    assert "by file" in command_line("read", "/f", "7")
    assert "two words" in command_line("getdir", "/").splitlines()
    assert "size: 7" in command_line("getdir", "-l", "/")
    assert "size: 7" in command_line("stat", "/f")
    assert command_line("whoami").startswith("unix:")
    assert command_line("remove", "/f") == ""
    assert condor_chirp("getdir /") == ["two words"]
    missing, unsupported = "There is no object by that name.", "The form of the request is invalid."
    for said, *words in (
        (missing, "fetch", "/f", local),
        (unsupported, "get_job_attr", "Owner"),
        (unsupported, "ulog", "text"),
    ):
        assert condor_chirp_run(words).stderr.strip() == said, words


def journey_files(place):
    with place.client() as chirp:
        assert chirp.write(b"0123456789", "/f", "wct") == 10
        assert chirp.read("/f", 100) == b"0123456789"
        assert chirp.read("/f", 3, offset=4) == b"456"
        assert chirp.read("/f", 100, offset=10) == b""
        assert chirp.read("/f", 0) == b""
        # Two of every five bytes from 1 on.
        assert chirp.read("/f", 4, 1, 2, 5) == b"1267"
        assert chirp.write(b"abcd", "/f", offset=1, stride_length=2, stride_skip=5) == 4
        assert chirp.read("/f", 100) == b"0ab345cd89"
        assert chirp.write(b"XY", "/f", offset=8) == 2
        assert chirp.write(b"+", "/f", "wa") == 1
        assert chirp.read("/f", 100) == b"0ab345cdXY+"
        assert chirp.write(b"abcdef", "/f", "wt", length=3) == 3
        assert chirp.read("/f", 100) == b"abc"
        chirp.truncate("/f", 5)
        assert chirp.read("/f", 100) == b"abc\0\0"
        assert chirp.stat("/f")["size"] == 5
        chirp.chmod("/f", 0o700)
        assert chirp.stat("/f")["mode"] == stat.S_IFREG | 0o700
        chirp.utime("/f", 1000, -2000)
        status = chirp.stat("/f")
        assert (status["atime"], status["mtime"]) == (1000, -2000), status
        chirp.access("/f", "rwf")
        chirp.chown("/f", 1, 1)
        chirp.lchown("/f", 1, 1)
        assert chirp.stat("/f") == chirp.lstat("/f")

        chirp.rename("/f", "/g")
        chirp.link("/g", "/hard")
        assert chirp.stat("/hard")["nlink"] == 2
        chirp.link("some where/g%20\\", "/soft", symbolic=True)
        assert chirp.readlink("/soft") == b"some where/g%20\\"
        assert stat.S_ISLNK(chirp.lstat("/soft")["mode"])
        chirp.unlink("/soft")
        chirp.symlink("g", "/soft")
        assert chirp.stat("/soft")["inode"] == chirp.stat("/g")["inode"]
        chirp.remove("/hard")
        assert sorted(chirp.getdir("/")) == ["g", "soft"]

        chirp.mkdir("/d")
        chirp.mkdir("/d/e", 0o700)
        # What the client makes of an empty listing.
        assert chirp.getdir("/d/e") == [""]
        assert chirp.getlongdir("/d/e") == {"": {}} or chirp.getlongdir("/d/e") == {}
        chirp.rmdir("/d/e")
        chirp.mkdir("/d/e")
        chirp.rmdir("/d", recursive=True)
        figures = chirp.statfs("/")
        assert figures["f_bsize"] > 0 and figures["f_blocks"] >= figures["f_bavail"], figures


def journey_positions(place):
    with place.client() as chirp:
        fd = chirp._open("/f", "rwct")
        assert chirp._write(fd, b"0123456789", 10) == 10
        assert chirp._lseek(fd, 0, 1) == 10
        assert chirp._read(fd, 5) == b""
        assert chirp._lseek(fd, 0, 0) == 0
        assert chirp._read(fd, 4) == b"0123"
        assert chirp._read(fd, 4) == b"4567"
        assert chirp._write(fd, b"ab", 2) == 2
        assert chirp._lseek(fd, -3, 2) == 7
        assert chirp._read(fd, 100) == b"7ab"
        assert chirp._lseek(fd, -8, 1) == 2
        # Another descriptor of the file, and the verbs with an offset, have nothing to do with it.
        other = chirp._open("/f", "r")
        assert other != fd
        assert chirp._read(other, 3) == b"012"
        assert chirp._read(fd, 1, 9) == b"b"
        assert chirp._write(fd, b"*", 1, 0) == 1
        assert chirp._read(fd, 1) == b"2"
        # Beyond the end, which leaves a hole.
        assert chirp._lseek(fd, 5, 2) == 15
        assert chirp._read(fd, 1) == b""
        assert chirp._write(fd, b"!", 1) == 1
        assert chirp._read(fd, 100, 9) == b"b\0\0\0\0\0!"
        # Larger than what is answered through memory.
        large = bytes(range(256)) * 1024
        assert chirp._lseek(fd, 0, 0) == 0
        assert chirp._write(fd, large, len(large)) == len(large)
        assert chirp._lseek(fd, 1, 0) == 1
        assert chirp._read(fd, 200_000) == large[1:200_001]
        assert chirp._read(fd, 200_000) == large[200_001:]
        for offset, whence in ((0, 3), (0, -1), (-1, 0), (-(10**9), 2)):
            refused(HTChirp.InvalidRequest, chirp._lseek, fd, offset, whence)
        assert chirp._lseek(fd, 0, 1) == len(large)
        chirp._fsync(fd)
        chirp._close(fd)
        chirp._close(other)
        for use in (chirp._read, chirp._close):
            refused(HTChirp.BadFD, use, *([fd, 1] if use == chirp._read else [fd]))
        refused(HTChirp.BadFD, chirp._lseek, fd, 0, 0)
        # Refused, and what came with it is gone.
        refused(HTChirp.BadFD, chirp._write, fd, b"version\n" * 100, 800)
        append = chirp._open("/log", "wcax")
        assert chirp._write(append, b"one", 3) == 3
        assert chirp._lseek(append, 0, 0) == 0
        assert chirp._write(append, b"two", 3) == 3
        assert chirp._lseek(append, 0, 1) == 6
        refused(HTChirp.BadFD, chirp._read, append, 1)
        refused(HTChirp.BadFD, chirp._write, chirp._open("/log", "r"), b"x", 1)
        assert chirp.read("/log", 100) == b"onetwo"
        directory = chirp._open("/", "r")
        refused(HTChirp.IsDir, chirp._read, directory, 1)
        refused(HTChirp.IsDir, chirp._lseek, directory, 0, 0)


def journey_names(place):
    with place.client() as chirp:
        for name in NAMES:
            path = "/" + name
            assert chirp.write(name.encode(), path, "wcx") == len(name.encode())
            assert chirp.read(path, 2000) == name.encode(), name
        listed = chirp._simple_command("getdir /\n")
        data = chirp._get_fixed_data(int(listed)).decode()
        assert data.endswith("\n\n")
        assert sorted(data[:-2].split("\n")) == sorted(NAMES), data
        long = chirp.getlongdir("/")
        for name in NAMES:
            assert long[name]["size"] == len(name.encode()), name
            chirp.rename("/" + name, "/" + "".join(reversed(name)))
            chirp.unlink("/" + "".join(reversed(name)))
        # A name with a line end could stand in no listing.
        for path in ("/line\nend", "/\n", "/x\nversion"):
            refused(HTChirp.InvalidRequest, chirp.write, b"", path, "wc")
            refused(HTChirp.InvalidRequest, chirp.mkdir, path)
            refused(HTChirp.DoesntExist, chirp.stat, path)
        refused(HTChirp.TooBig, chirp.mkdir, "/" + "n" * 256)
        refused(HTChirp.TooBig, chirp.mkdir, "/d" * 600)
        # As long as a line may be, most of it escapes.
        refused(HTChirp.TooBig, chirp.stat, " " * 2557)
        refused(HTChirp.TooBig, chirp.stat, "x" * 6000)
        assert chirp.getdir("/") == [""]
        assert chirp.whoami().startswith("unix:")


def journey_big(place):
    size = 40 * 1024 * 1024 + 17
    content = os.urandom(1024 * 1024 + 7)
    content = (content * (size // len(content) + 1))[:size]
    there, back = place.local("there"), place.local("back")
    write(there, content)
    with place.client() as chirp:
        assert chirp.put(there, "/big") == size
        assert chirp.stat("/big")["size"] == size
        assert chirp.fetch("/big", back) == size
        assert digest(read(back)) == digest(content)
        # One read or write moves 16 MiB at most.
        most = 16 * 1024 * 1024
        fd = chirp._open("/big", "rw")
        assert chirp._simple_command(f"read {fd} {size}\n") == str(most)
        assert digest(received(chirp.socket, most)) == digest(content[:most])
        assert chirp._lseek(fd, 0, 1) == most
        assert chirp._lseek(fd, 0, 0) == 0
        assert chirp._write(fd, content[1 : most + 100], most + 99) == most
        assert chirp._lseek(fd, 0, 1) == most
        assert chirp._read(fd, 10) == content[most : most + 10]
        chirp._close(fd)
        # Nothing in it, whose second answer HTCondor's own server leaves out.
        write(there, b"")
        assert chirp.put(there, "/big") == 0
        assert chirp.stat("/big")["size"] == 0
        assert chirp.fetch("/big", back) == 0
        assert read(back) == b""


def journey_trees(place):
    source, copy = place.local("source"), place.local("copy")
    for number in range(300):
        directory = os.path.join(source, f"d {number % 7}", f"\u00e9{number % 3}")
        os.makedirs(directory, exist_ok=True)
        write(os.path.join(directory, f"file {number}"), os.urandom(number * 10))
    with place.client() as chirp:
        put_tree(chirp, source, "/tree")
        fetch_tree(chirp, "/tree", copy)
        assert snapshot(copy) == snapshot(source)
        chirp.rmall("/tree")
        refused(HTChirp.DoesntExist, chirp.stat, "/tree")
        # More than one piece of a listing, whose length is told first all the same.
        chirp.mkdir("/many")
        for number in range(1500):
            path = f"/many/{number} {'x' * 80}"
            chirp._close(chirp._open(path, "wc"))
        names = {f"{number} {'x' * 80}" for number in range(1500)}
        assert set(chirp.getdir("/many")) == names
        long = chirp.getlongdir("/many")
        assert set(long) == names
        assert all(len(status) == 13 and status["size"] == 0 for status in long.values())
        assert chirp.whoami().startswith("unix:")


def journey_errors(place):
    with place.client() as chirp:
        chirp.mkdir("/d")
        chirp.write(b"x", "/d/f", "wc")
        for error, call, *words in (
            (HTChirp.DoesntExist, chirp.stat, "/none"),
            (HTChirp.DoesntExist, chirp.lstat, "/none"),
            (HTChirp.DoesntExist, chirp.getfile, "/none", place.local("none")),
            (HTChirp.DoesntExist, chirp.read, "/none", 1),
            (HTChirp.DoesntExist, chirp.getdir, "/d/f"),
            (HTChirp.DoesntExist, chirp.unlink, "/none"),
            (HTChirp.DoesntExist, chirp.truncate, "/none", 1),
            (HTChirp.AlreadyExists, chirp.mkdir, "/d"),
            (HTChirp.AlreadyExists, chirp.write, b"", "/d/f", "wcx"),
            (HTChirp.AlreadyExists, chirp.link, "/d/f", "/d/f"),
            (HTChirp.AlreadyExists, chirp.symlink, "x", "/d/f"),
            (HTChirp.IsDir, chirp.getfile, "/d", place.local("none")),
            (HTChirp.IsDir, chirp.write, b"", "/d"),
            (HTChirp.IsDir, chirp.unlink, "/d"),
            (HTChirp.IsDir, chirp.putfile, __file__, "/d"),
            (HTChirp.NotDir, chirp.rmdir, "/d/f"),
            (HTChirp.NotEmpty, chirp.rmdir, "/d"),
            (HTChirp.InvalidRequest, chirp.rename, "/d", "/d/e"),
            (HTChirp.InvalidRequest, chirp.readlink, "/d/f"),
            (HTChirp.InvalidRequest, chirp.truncate, "/d/f", -1),
            (HTChirp.Busy, chirp.rename, "/", "/d/e"),
            # The rights files are the server's, and nobody has the right to run programs.
            (HTChirp.NotAuthorized, chirp.unlink, "/d/.__acl"),
            (HTChirp.NotAuthorized, chirp.mkdir, "/none/d"),
            (HTChirp.NotAuthorized, chirp.link, "/d", "/e"),
            (HTChirp.NotAuthorized, chirp.access, "/d/f", "x"),
        ):
            refused(error, call, *words)
            assert chirp._simple_command("version\n") == "2"
        for number in range(2000):
            try:
                chirp._open("/d/f", "r")
            except HTChirp.TooManyOpen:
                break
        assert number == 1024, number
        chirp._close(512)
        assert chirp._open("/d/f", "r") == 512


def journey_jobs(place):
    """There is no batch system here: HTCondor's errors have no word for that but "invalid"."""
    with place.client() as chirp:
        for call, *words in (
            (chirp.get_job_attr, "Owner"),
            (chirp.get_job_attr_delayed, "Owner"),
            (chirp.set_job_attr, "ChirpA", '"a b\\c\td"'),
            (chirp.set_job_attr_delayed, "ChirpA", "x" * 4000),
            (chirp.ulog, "several\nlines of\r\ntext\\"),
            (chirp.ulog, "version\nversion\n"),
        ):
            refused(HTChirp.InvalidRequest, call, *words)
            assert chirp._simple_command("version\n") == "2"
        for line in ("lookup /f\n", "constrain A==1\n", "phase\n", "get_job_attr\n"):
            refused(HTChirp.InvalidRequest, chirp._simple_command, line)
        assert chirp.whoami().startswith("unix:")


class Place:
    def __init__(self, host, port, cookie, directory):
        self.host, self.port, self.cookie = host, int(port), cookie
        self.directory = directory

    def client(self):
        return HTChirp(self.host, self.port, cookie=self.cookie, timeout=30)

    def local(self, name):
        return os.path.join(self.directory, name)


def refused(error, call, *words, **named):
    try:
        result = call(*words, **named)
    except HTChirp.ChirpError as raised:
        assert type(raised) is error, f"{call}{words!r:.200} raised {raised!r}, not {error}"
    else:
        raise AssertionError(f"{call}{words!r:.200} gave {result!r}, not {error}")


def condor_chirp_run(words):
    command = [sys.executable, "-m", "htchirp", *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=60)


def command_line(*words):
    done = condor_chirp_run(words)
    # A failure is told, but not by the status.
    assert done.returncode == 0 and not done.stderr, done
    return done.stdout


def put_tree(chirp, local, remote):
    chirp.mkdir(remote)
    for entry in os.scandir(local):
        if entry.is_dir():
            put_tree(chirp, entry.path, f"{remote}/{entry.name}")
        else:
            assert chirp.put(entry.path, f"{remote}/{entry.name}") == entry.stat().st_size


def fetch_tree(chirp, remote, local):
    os.mkdir(local)
    for name, status in chirp.getdir(remote, stat_dict=True).items():
        there, here = f"{remote}/{name}", os.path.join(local, name)
        if stat.S_ISDIR(status["mode"]):
            fetch_tree(chirp, there, here)
        else:
            assert chirp.fetch(there, here) == status["size"]


def snapshot(root):
    return {
        os.path.relpath(os.path.join(directory, name), root): digest(
            read(os.path.join(directory, name))
        )
        for directory, _, names in os.walk(root)
        for name in names
    }


def received(connection, length):
    """What the client does itself takes a minute for 16 MiB."""
    data = bytearray()
    while len(data) < length:
        piece = connection.recv(1024 * 1024)
        assert piece, "the server ended the connection"
        data += piece
    return bytes(data)


def digest(data):
    return hashlib.sha256(data).hexdigest()


def read(path):
    with open(path, "rb") as file:
        return file.read()


def write(path, data):
    with open(path, "wb") as file:
        file.write(data)


if __name__ == "__main__":
    assert importlib.metadata.version("htchirp") == VERSION, htchirp.__file__
    globals()[f"journey_{sys.argv[1]}"](Place(*sys.argv[2:]))
