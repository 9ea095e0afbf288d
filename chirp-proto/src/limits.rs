//! Every limit of the wire (`chirp-protocol.md`, parts 1.2, 1.3, 3.1 and 5).

/// Content bytes of a request line, its LF and any CR not counted.
pub const LINE_MAX: usize = 1023;

/// Content bytes of a request line in HTCondor's dialect, and of a login line where cookies are taken.
pub const CONDOR_LINE_MAX: usize = 5120;

/// Content bytes of a login line other than the method name.
pub const AUTH_LINE_MAX: usize = 2047;

/// Bytes of unfinished line after which it counts as over-long even if most of them are CR, which
/// are not content. It bounds what a receiver must buffer.
pub const RAW_LINE_MAX: usize = 2 * LINE_MAX + 2;

/// Bytes that one `pread`, `pwrite`, `sread`, `swrite` or counted text may carry; also the limit of
/// every body that is kept in memory or skipped.
pub const IO_MAX: u64 = 16 * 1024 * 1024;

/// Bytes of a normalised virtual path.
pub const PATH_MAX: usize = 1023;

/// Bytes of one path component.
pub const NAME_MAX: usize = 255;

/// Descriptors that one connection may hold open.
pub const DESCRIPTORS_MAX: usize = 1024;

/// The port of a Chirp server where none is named.
pub const DEFAULT_PORT: u16 = 9094;
