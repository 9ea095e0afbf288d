//! Children that the kernel kills when this program dies, however it dies.
//!
//! A test run that is killed must not leave servers behind. `PR_SET_PDEATHSIG` does that, but it
//! fires at the end of the *thread* that made the child, and a test's thread may end long before
//! others have done with the server. So one thread, which lives as long as the program, makes all
//! children.

use std::io;
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command};
use std::sync::mpsc::{Sender, channel};
use std::sync::{LazyLock, Mutex, PoisonError};
use std::thread;

use rustix::process::{Signal, set_parent_process_death_signal};

struct Order {
    command: Command,
    reply: Sender<io::Result<Child>>,
}

static MAKER: LazyLock<Mutex<Sender<Order>>> = LazyLock::new(|| {
    let (sender, orders) = channel::<Order>();
    thread::spawn(move || {
        for mut order in orders {
            // Nobody to take the child means that the caller's thread is gone; it is dropped.
            let _ = order.reply.send(order.command.spawn());
        }
    });
    Mutex::new(sender)
});

/// Starts `command` as a child that does not outlive this program.
pub(super) fn spawn(mut command: Command) -> io::Result<Child> {
    die_with_parent(&mut command);
    let (reply, answer) = channel();
    let order = Order { command, reply };
    MAKER
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .send(order)
        .map_err(|_| io::Error::other("the thread that starts servers is gone"))?;
    answer
        .recv()
        .map_err(|_| io::Error::other("the thread that starts servers is gone"))?
}

#[expect(unsafe_code, reason = "std offers nothing else between fork and exec")]
fn die_with_parent(command: &mut Command) {
    // SAFETY: the closure makes one system call (prctl) and neither allocates nor takes locks, so
    // it may run in the child of a multi-threaded program.
    unsafe {
        command.pre_exec(|| {
            set_parent_process_death_signal(Some(Signal::KILL)).map_err(io::Error::from)
        });
    }
}
