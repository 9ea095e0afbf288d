//! Every limit of the extension's wire in one place (`exec-extension.md`).

/// Bytes of the JSON body of one `exec` request; `features` announces it.
pub const REQUEST_MAX: usize = 1024 * 1024;

/// Bytes of a request's body that a server reads and drops after refusing it.
pub const DROPPED_BODY_MAX: u64 = 16 * 1024 * 1024;

/// Bytes of one frame's payload.
pub const FRAME_MAX: usize = 1024 * 1024;

/// Content bytes of a frame's header line. The longest one defined, `at` with four numbers, has 66.
pub const HEADER_MAX: usize = 128;

/// Content bytes of the error line that ends a stream; words beyond it are cut by the sender.
pub const ERROR_LINE_MAX: usize = 1023;

/// Characters of a `cmd-id`.
pub const CMD_ID_MAX: usize = 128;

/// The largest integer that JSON carries exactly everywhere: 2^53.
pub const INTEGER_MAX: u64 = 1 << 53;

/// Bytes of unacknowledged output kept for each stream where nothing else is set.
pub const WINDOW_DEFAULT: usize = 1024 * 1024;

/// Bytes of one captured stream that a status holds; `exec_output` has the rest.
pub const INLINE_MAX: usize = 256 * 1024;

/// Bytes that they may take as JSON. A status with two of them fits into a frame.
pub const INLINE_JSON_MAX: usize = 384 * 1024;

/// Bytes of captured output in one answer to `exec_output`.
pub const OUTPUT_MAX: usize = 1024 * 1024;

/// The longest wait of one `exec_wait`, in seconds.
pub const WAIT_MAX_SECONDS: u64 = 30;
