//! What a guest finds out about itself and its host without any configuration.
//!
//! Each source has a parser of text or bytes and one small function that reads the kernel's file, so that
//! the parsers can be tried without the machine.

mod address;
mod cmdline;
mod identity;
mod interface;
mod resolve;
mod route;

pub use address::{BROKER_PORT, HostPort, NotAHostPort};
pub use cmdline::{KernelKeys, kernel_keys, parse_cmdline};
pub use identity::{boot_id, host_id, host_name, load_average, new_id, uptime};
pub use interface::{Interface, interfaces, parse_address_dump};
pub use resolve::{NoBroker, broker_name, host_address, resolve_broker};
pub use route::{default_gateway, parse_ipv4_routes, parse_ipv6_routes};
