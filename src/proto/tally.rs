//! How many messages of each command, counted where many pass at once.
//!
//! Layer 3.

use crate::wire::Command;

/// Counts of commands, a few of which make up most of what passes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    /// The command counted last, and its place.
    last: Option<(Command, usize)>,
    /// One for each known command that was counted, and one for all others.
    counts: Vec<(Option<usize>, u64)>,
}

impl Tally {
    /// Counts one message.
    pub(crate) fn add(&mut self, command: Command) {
        let at = match self.last {
            Some((last, at)) if last == command => at,
            _ => self.find(command),
        };
        self.counts[at].1 += 1;
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.counts.is_empty()
    }

    /// The counts, by [`Command::index`].
    pub(crate) fn counts(&self) -> &[(Option<usize>, u64)] {
        &self.counts
    }

    /// All messages together.
    pub(crate) fn total(&self) -> u64 {
        self.counts.iter().map(|&(_, count)| count).sum()
    }

    fn find(&mut self, command: Command) -> usize {
        let index = command.index();
        let at = self.counts.iter().position(|&(other, _)| other == index).unwrap_or_else(|| {
            self.counts.push((index, 0));
            self.counts.len() - 1
        });
        self.last = Some((command, at));
        at
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_counted_in_any_order_and_strangers_together() {
        let mut tally = Tally::default();
        assert!(tally.is_empty());
        let strangers = ["cat", "dog"].map(|name| Command::new(name).expect("a legal name"));
        for command in [Command::TX, Command::TX, strangers[0], Command::INV, strangers[1], Command::TX] {
            tally.add(command);
        }
        assert_eq!(tally.counts(), [(Command::TX.index(), 3), (None, 2), (Command::INV.index(), 1)]);
        assert_eq!(tally.total(), 6);
    }
}
