//! Which clients work on which servers.

use serde::Serialize;

/// Which of a pair: the one to be like, or the one that is held against it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Side {
    /// The one to be like.
    First,
    /// The one that is held against it.
    Second,
}

impl Side {
    /// Both of them.
    pub const ALL: [Self; 2] = [Self::First, Self::Second];

    /// Returns its half of a pair.
    pub fn of<T>(self, pair: &[T; 2]) -> &T {
        let [first, second] = pair;
        match self {
            Self::First => first,
            Self::Second => second,
        }
    }

    fn other(self) -> Self {
        match self {
            Self::First => Self::Second,
            Self::Second => Self::First,
        }
    }
}

/// Whether the two sides meet in a journey.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mix {
    /// Four cells: all clients of one side, and all servers of one side.
    Apart,
    /// Cells whose further servers are of the other side than the first server.
    Servers,
    /// Cells in which the other side's clients use what these made.
    Clients,
}

/// One combination of clients and servers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cell {
    /// The clients that work, and those that use what was made.
    pub clients: [Side; 2],
    /// The servers; the first is the one that most is done on.
    pub servers: Vec<Side>,
}

impl Mix {
    /// Returns the cells of a journey with `count` servers. The first of them has first sides only.
    #[must_use]
    pub fn cells(self, count: usize) -> Vec<Cell> {
        let mut cells = vec![Cell {
            clients: [Side::First; 2],
            servers: vec![Side::First; count],
        }];
        for server in Side::ALL {
            for client in Side::ALL {
                let mut cell = Cell {
                    clients: [client; 2],
                    servers: vec![server; count],
                };
                match self {
                    Self::Apart => {}
                    Self::Clients => cell.clients = [client, client.other()],
                    Self::Servers => {
                        for further in cell.servers.iter_mut().skip(1) {
                            *further = server.other();
                        }
                    }
                }
                if !cells.contains(&cell) {
                    cells.push(cell);
                }
            }
        }
        cells
    }
}

#[cfg(test)]
mod tests {
    use super::Side::{First, Second};
    use super::*;

    #[test]
    fn the_first_cell_has_first_sides_only() {
        for mix in [Mix::Apart, Mix::Servers, Mix::Clients] {
            let cells = mix.cells(2);
            assert_eq!(cells[0].clients, [First; 2]);
            assert_eq!(cells[0].servers, [First; 2]);
            assert_eq!(cells.len(), if mix == Mix::Apart { 4 } else { 5 });
            for (at, cell) in cells.iter().enumerate() {
                assert!(!cells[..at].contains(cell), "{cell:?} twice");
            }
        }
    }

    #[test]
    fn servers_meet_in_both_directions() {
        let cells = Mix::Servers.cells(3);
        for servers in [[First, Second, Second], [Second, First, First]] {
            for clients in [[First; 2], [Second; 2]] {
                let servers = servers.to_vec();
                assert!(cells.contains(&Cell { clients, servers }));
            }
        }
    }
}
