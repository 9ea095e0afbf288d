//! Names that nobody can guess.

/// Returns the hexadecimal digits of `N` random bytes.
///
/// # Errors
///
/// The system's random source failed.
pub(crate) fn hex<const N: usize>() -> Result<String, getrandom::Error> {
    let mut bytes = [0u8; N];
    getrandom::fill(&mut bytes)?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}
