//! A proxy between a client and a server that ill-treats connections: it cuts, stalls and delays them at
//! places chosen by a seed.

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU16, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread;
use std::time::Duration;

/// Bytes that are read at once.
const CHUNK: usize = 64 * 1024;

/// How long a stalled connection stands still; long enough that the other side notices full buffers.
const STALL: Duration = Duration::from_millis(40);

/// Listens on loopback and passes connections on to a server until each one's fate comes. It ends with
/// this value.
pub(crate) struct Cutter {
    port: u16,
    shared: Arc<Shared>,
}

struct Shared {
    /// The server's port; it changes where a server is started again.
    target: AtomicU16,
    ended: AtomicBool,
    /// Bytes passed on so far, of all connections.
    passed: AtomicU64,
    plan: Mutex<Plan>,
}

/// What is still to happen.
struct Plan {
    random: u64,
    /// Cuts that are left.
    left: u32,
    /// Cuts that were made.
    made: u32,
    /// Bytes of one direction between two cuts, on average.
    every: u64,
}

/// What happens to one direction of a connection.
#[derive(Clone, Copy)]
struct Fate {
    /// Bytes that are passed on before.
    at: u64,
    kind: Kind,
}

#[derive(Clone, Copy)]
enum Kind {
    /// Both directions end as if the machine between had gone: what is on the way is lost.
    Reset,
    /// This direction ends in order, the other a moment later.
    Close,
    /// Nothing goes for a while in this direction only, then the connection is reset.
    StallAndReset,
    /// Nothing goes for a while, and then all of it does.
    Stall,
    /// A few bytes at a time go for a while.
    Trickle,
}

impl Cutter {
    /// Starts a proxy to the server at `target` that makes `cuts` cuts, about `every` bytes apart.
    #[track_caller]
    pub(crate) fn start(target: u16, seed: u64, cuts: u32, every: u64) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let shared = Arc::new(Shared {
            target: AtomicU16::new(target),
            ended: AtomicBool::new(false),
            passed: AtomicU64::new(0),
            plan: Mutex::new(Plan {
                random: seed,
                left: cuts,
                made: 0,
                every,
            }),
        });
        let serving = Arc::clone(&shared);
        thread::spawn(move || {
            for near in listener.incoming() {
                if serving.ended.load(Ordering::Relaxed) {
                    break;
                }
                // While no server listens the client is turned away, as it would be without the proxy.
                let Ok(near) = near else { continue };
                let target = serving.target.load(Ordering::Relaxed);
                if let Ok(far) = TcpStream::connect((Ipv4Addr::LOCALHOST, target)) {
                    serving.join(&near, &far);
                }
            }
        });
        Self { port, shared }
    }

    /// Returns the port that clients are to use.
    pub(crate) const fn port(&self) -> u16 {
        self.port
    }

    /// Leads further connections to another server.
    pub(crate) fn lead_to(&self, target: u16) {
        self.shared.target.store(target, Ordering::Relaxed);
    }

    /// Returns how many bytes went through, both ways.
    pub(crate) fn passed(&self) -> u64 {
        self.shared.passed.load(Ordering::Relaxed)
    }

    /// Returns how many connections were cut.
    pub(crate) fn made(&self) -> u32 {
        self.shared.plan().made
    }
}

impl Drop for Cutter {
    fn drop(&mut self) {
        self.shared.ended.store(true, Ordering::Relaxed);
        // Wakes the thread that accepts. Those of connections end with them.
        let _ = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port));
    }
}

impl Shared {
    /// Passes both directions on, each in a thread of its own, until one meets its fate.
    fn join(self: &Arc<Self>, near: &TcpStream, far: &TcpStream) {
        let fates = self.plan().fates();
        let over = Arc::new(AtomicBool::new(false));
        for ((from, to), fate) in [(near, far), (far, near)].into_iter().zip(fates) {
            let _ = from.set_nodelay(true);
            let (from, to) = (from.try_clone().unwrap(), to.try_clone().unwrap());
            let (shared, over) = (Arc::clone(self), Arc::clone(&over));
            thread::spawn(move || shared.pass(from, to, fate, &over));
        }
    }

    fn pass(&self, mut from: TcpStream, mut to: TcpStream, mut fate: Fate, over: &AtomicBool) {
        let mut chunk = vec![0; CHUNK];
        let mut gone = 0;
        loop {
            let room = usize::try_from(fate.at - gone).unwrap_or(CHUNK);
            if room == 0 {
                match fate.kind {
                    Kind::Stall => thread::sleep(STALL),
                    Kind::Trickle => {
                        for _ in 0..50 {
                            let Ok(count @ 1..) = from.read(&mut chunk[..3]) else {
                                break;
                            };
                            if to.write_all(&chunk[..count]).is_err() {
                                break;
                            }
                            thread::sleep(Duration::from_millis(1));
                        }
                    }
                    kind => {
                        // One of the two directions is the one that cuts.
                        if self.plan().may_cut() && !over.swap(true, Ordering::Relaxed) {
                            cut(kind, &from, &to);
                            return;
                        }
                    }
                }
                let next = self.plan().fate();
                fate = Fate {
                    at: next.at.saturating_add(gone),
                    ..next
                };
                continue;
            }
            let room = room.min(CHUNK);
            match from.read(&mut chunk[..room]) {
                Ok(count @ 1..) => {
                    if to.write_all(&chunk[..count]).is_err() {
                        break;
                    }
                    gone += count as u64;
                    self.passed.fetch_add(count as u64, Ordering::Relaxed);
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Ok(0) => {
                    // Its end is passed on; the other direction may go on.
                    let _ = to.shutdown(Shutdown::Write);
                    return;
                }
                Err(_) => break,
            }
        }
        let _ = from.shutdown(Shutdown::Both);
        let _ = to.shutdown(Shutdown::Both);
    }

    fn plan(&self) -> MutexGuard<'_, Plan> {
        self.plan.lock().unwrap()
    }
}

fn cut(kind: Kind, from: &TcpStream, to: &TcpStream) {
    let how = match kind {
        Kind::Close => {
            let _ = to.shutdown(Shutdown::Write);
            thread::sleep(Duration::from_millis(5));
            Shutdown::Both
        }
        Kind::StallAndReset => {
            thread::sleep(STALL);
            Shutdown::Both
        }
        // No end is sent in order. It wakes the other direction's thread, and the reset goes out when
        // that has let go of the sockets too.
        Kind::Reset | Kind::Stall | Kind::Trickle => Shutdown::Read,
    };
    for socket in [from, to] {
        // What the kernel still holds is thrown away with the connection.
        let _ = rustix::net::sockopt::set_socket_linger(socket, Some(Duration::ZERO));
        let _ = socket.shutdown(how);
    }
}

impl Plan {
    /// Chooses what happens to the two directions of the next connection.
    fn fates(&mut self) -> [Fate; 2] {
        [(); 2].map(|()| self.fate())
    }

    /// Chooses what happens to one direction next; nothing once all cuts were made.
    fn fate(&mut self) -> Fate {
        let kind = match self.below(8) {
            0 | 1 => Kind::Close,
            2 => Kind::StallAndReset,
            3 => Kind::Stall,
            4 => Kind::Trickle,
            _ => Kind::Reset,
        };
        // Every sixth where requests and the first frames are.
        let at = match self.below(6) {
            0 => 1 + self.below(600),
            _ => 1 + self.below(2 * self.every),
        };
        let at = if self.left == 0 { u64::MAX } else { at };
        Fate { at, kind }
    }

    fn may_cut(&mut self) -> bool {
        let may = self.left > 0;
        if may {
            self.left -= 1;
            self.made += 1;
        }
        may
    }

    /// Draws a number below `bound`: splitmix64.
    fn below(&mut self, bound: u64) -> u64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.random;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % bound
    }
}
