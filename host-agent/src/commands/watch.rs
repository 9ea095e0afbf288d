//! `guests --watch` at a terminal: the guests as they are, drawn anew when something changes.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;

use super::Stopped;
use super::guests::table;
use crate::api::client::ApiClient;
use crate::api::types::Notice;
use crate::output::{self, Stream};
use crate::pattern::Pattern;

/// Times, loads and free space are drawn anew after this where nothing else changes.
const EVERY: Duration = Duration::from_secs(1);

/// What happens within this is drawn together.
const TOGETHER: Duration = Duration::from_millis(100);

/// A terminal that does not say how large it is.
const USUAL: (usize, usize) = (24, 80);

/// Draws the guests that a pattern takes until interrupted, or until the agent stops.
pub(super) async fn draw(client: &ApiClient, to: Option<&str>) -> anyhow::Result<ExitCode> {
    let pattern = to.map(Pattern::parse).transpose()?;
    let mut news = client.events().await?;
    output::write(Stream::Out, b"\x1b[2J")?;
    loop {
        let mut guests = client.guests(None, false).await.context(Stopped)?.guests;
        if let Some(pattern) = &pattern {
            guests.retain(|guest| pattern.takes(guest));
        }
        let size = rustix::termios::tcgetwinsize(std::io::stdout())
            .map(|size| (size.ws_row.into(), size.ws_col.into()))
            .ok()
            .filter(|&(rows, columns)| rows > 1 && columns > 1);
        output::write(
            Stream::Out,
            screen(&table(&guests), size.unwrap_or(USUAL)).as_bytes(),
        )?;
        tokio::select! {
            notice = news.next::<Notice>() => {
                notice.context(Stopped)?.ok_or(Stopped)?;
                tokio::time::sleep(TOGETHER).await;
            }
            () = tokio::time::sleep(EVERY) => {}
        }
    }
}

/// Returns what puts these lines over whatever a terminal of that many rows and columns shows.
fn screen(text: &str, (rows, columns): (usize, usize)) -> String {
    let lines: Vec<&str> = text.lines().collect();
    let fits = lines.len() < rows;
    let shown = if fits {
        lines.len()
    } else {
        rows.saturating_sub(2)
    };
    let mut out = "\x1b[H".to_owned();
    for line in lines.iter().take(shown) {
        out.extend(line.chars().take(columns));
        out.push_str("\x1b[K\r\n");
    }
    if !fits {
        let more = format!(
            "... {} more lines; make the window larger",
            lines.len() - shown
        );
        out.extend(more.chars().take(columns));
        out.push_str("\x1b[K\r\n");
    }
    out.push_str("\x1b[J");
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_screen_is_drawn_over_without_running_over_its_edges() {
        assert_eq!(
            screen("ab\nc", (24, 80)),
            "\x1b[Hab\x1b[K\r\nc\x1b[K\r\n\x1b[J"
        );
        assert_eq!(screen("äöü", (24, 2)), "\x1b[Häö\x1b[K\r\n\x1b[J");
        let long = screen(&"line\n".repeat(10), (4, 80));
        assert_eq!(long.matches("line\u{1b}").count(), 2);
        assert!(long.contains("... 8 more lines"), "{long}");
        assert_eq!(long.matches('\n').count(), 3, "the last row stays free");
    }
}
