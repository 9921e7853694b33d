//! What a conduit has done so far, as numbers: the snapshot that [`Conduit::stats`](crate::Conduit::stats) takes.
//!
//! Values only; the counters they are read from live where the work is done.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

/// What a conduit has done since it was made, as it stood when [`Conduit::stats`](crate::Conduit::stats) was called.
///
/// Numbers that belong together are read one after the other while work goes on, so that a sum may be ahead of its parts
/// by what happened in between. `Display` writes all of it as a table; what never happened has no line there, nor an
/// entry in the maps.
#[non_exhaustive]
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Stats {
    /// Time since the start; zero before.
    pub uptime: Duration,
    /// Bytes read from sockets.
    pub bytes_received: u64,
    /// Bytes that sockets took.
    pub bytes_sent: u64,
    /// Messages that arrived whole, by command, also those of handshake and keepalive, and those that proved faulty.
    /// Commands that SV Node does not know are counted together as `other`.
    pub messages_received: BTreeMap<String, u64>,
    /// Messages given to connections, by command, one for each peer. Whether they left says
    /// [`unsent`](Drops::unsent).
    pub messages_sent: BTreeMap<String, u64>,
    /// Frames that wait to be sent, of all peers, without those of handshake and keepalive.
    pub outbound_queue: QueueStats,
    /// Frames between the sockets and their receivers, of all peers; also parts of large ones that have begun to arrive.
    pub inbound_queue: QueueStats,
    /// The queue of [`Conduit::messages`](crate::Conduit::messages), while it is open.
    pub message_queue: Option<QueueStats>,
    /// The queues of [`Conduit::subscribe`](crate::Conduit::subscribe) that are open, oldest first.
    pub subscriptions: Vec<QueueStats>,
    /// The queues of [`Conduit::watch`](crate::Conduit::watch) that are open, oldest first.
    pub watches: Vec<QueueStats>,
    /// Transactions that are broadcast, or held for peers that ask late.
    pub outbox: QueueStats,
    /// What was dropped, each kind for its own reason.
    pub drops: Drops,
    /// Connections that were tried.
    pub dials: u64,
    /// Peers connected, handshake done; those connected again count again.
    pub connects: u64,
    /// Those of them that had been connected and were lost.
    pub reconnects: u64,
    /// Peers that could not be connected, by [`DisconnectReason::name`](crate::DisconnectReason::name).
    pub refusals: BTreeMap<String, u64>,
    /// Connected peers lost, by [`DisconnectReason::name`](crate::DisconnectReason::name).
    pub disconnects: BTreeMap<String, u64>,
    /// Requests that ended: `ok` with their reply, the others by [`RequestError::name`](crate::RequestError::name), also
    /// where the call itself was refused.
    pub requests: BTreeMap<String, u64>,
    /// Verdicts of broadcasts, by [`Verdict::name`](crate::Verdict::name).
    pub broadcasts: BTreeMap<String, u64>,
    /// Blocks that were streamed: `proven`, `abandoned` by their readers, the others by
    /// [`BlockError::name`](crate::BlockError::name), also where the call itself was refused. One of
    /// [many](crate::Conduit::blocks) that is put off for want of room is abandoned, and asked for again.
    pub blocks: BTreeMap<String, u64>,
}

/// How full a queue is, and how full it has been.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct QueueStats {
    /// Messages or frames in it.
    pub items: u64,
    /// What they are charged against the queue's limit: their bytes, and something for each of them.
    pub bytes: u64,
    /// The most items it ever held.
    pub most_items: u64,
    /// The most bytes it ever was charged.
    pub most_bytes: u64,
}

/// What was dropped.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Drops {
    /// Messages that no request had asked for and no queue was open for.
    pub unclaimed: u64,
    /// Payloads above [`stream_threshold`](crate::Config#structfield.stream_threshold), skipped.
    pub oversized: u64,
    /// Messages that did not decode, and what came behind them from the same peer.
    pub faulty: u64,
    /// Frames queued for a peer that was lost before they had left.
    pub unsent: u64,
    /// Events that slow readers of [`Conduit::events`](crate::Conduit::events) missed, for each reader.
    pub events: u64,
    /// Announcements that watches did not deliver, for each watch: see [`Missed`](crate::Watched::Missed).
    pub announcements: u64,
}

/// What has passed over a connection that is up.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Traffic {
    /// Bytes read from the socket.
    pub bytes_received: u64,
    /// Bytes that the socket took.
    pub bytes_sent: u64,
    /// Messages that arrived whole, also those of handshake and keepalive.
    pub messages_received: u64,
    /// Messages given to the connection; the last of them may not have left yet.
    pub messages_sent: u64,
}

impl fmt::Display for Stats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let blocks = [self.queue_rows(), self.traffic_rows(), self.count_rows()];
        let first = blocks.iter().flatten().map(|row| row[0].len()).max().unwrap_or(0);
        for (index, rows) in blocks.iter().enumerate() {
            if index > 0 {
                writeln!(f)?;
            }
            write_rows(f, rows, first)?;
        }
        Ok(())
    }
}

impl Stats {
    fn queue_rows(&self) -> Vec<Vec<String>> {
        let head = ["queue", "items", "bytes", "most items", "most bytes"].map(str::to_owned).to_vec();
        let row = |name: String, queue: &QueueStats| {
            let numbers = [queue.items, queue.bytes, queue.most_items, queue.most_bytes];
            std::iter::once(name).chain(numbers.map(|number| number.to_string())).collect()
        };
        let mut rows = vec![
            head,
            row("outbound".to_owned(), &self.outbound_queue),
            row("inbound".to_owned(), &self.inbound_queue),
            row("outbox".to_owned(), &self.outbox),
        ];
        rows.extend(self.message_queue.iter().map(|queue| row("messages".to_owned(), queue)));
        let numbered = |name, queues: &[QueueStats]| -> Vec<_> {
            queues.iter().zip(1..).map(|(queue, n)| row(format!("{name} {n}"), queue)).collect()
        };
        rows.extend(numbered("subscription", &self.subscriptions));
        rows.extend(numbered("watch", &self.watches));
        rows
    }

    fn traffic_rows(&self) -> Vec<Vec<String>> {
        let row =
            |name: &str, received: u64, sent: u64| vec![name.to_owned(), received.to_string(), sent.to_string()];
        let (received, sent) = (&self.messages_received, &self.messages_sent);
        let mut rows = vec![
            ["traffic", "received", "sent"].map(str::to_owned).to_vec(),
            row("bytes", self.bytes_received, self.bytes_sent),
            row("messages", received.values().sum(), sent.values().sum()),
        ];
        let commands: std::collections::BTreeSet<&String> = received.keys().chain(sent.keys()).collect();
        let of = |counts: &BTreeMap<String, u64>, command| counts.get(command).copied().unwrap_or(0);
        rows.extend(commands.into_iter().map(|name| row(&format!("  {name}"), of(received, name), of(sent, name))));
        rows
    }

    fn count_rows(&self) -> Vec<Vec<String>> {
        let row = |name: &str, count: u64| vec![name.to_owned(), count.to_string()];
        let sum = |name: &str, counts: &BTreeMap<String, u64>| {
            let parts = counts.iter().map(|(name, &count)| row(&format!("  {name}"), count));
            std::iter::once(row(name, counts.values().sum())).chain(parts).collect::<Vec<_>>()
        };
        let drops = &self.drops;
        let drops: BTreeMap<String, u64> = [
            ("unclaimed", drops.unclaimed),
            ("oversized", drops.oversized),
            ("faulty", drops.faulty),
            ("unsent", drops.unsent),
            ("events", drops.events),
            ("announcements", drops.announcements),
        ]
        .into_iter()
        .filter(|&(_, count)| count > 0)
        .map(|(name, count)| (name.to_owned(), count))
        .collect();
        let mut rows = vec![
            ["count", ""].map(str::to_owned).to_vec(),
            vec!["uptime seconds".to_owned(), format!("{:.1}", self.uptime.as_secs_f64())],
            row("dials", self.dials),
            row("connects", self.connects),
            row("reconnects", self.reconnects),
        ];
        rows.extend(sum("refusals", &self.refusals));
        rows.extend(sum("disconnects", &self.disconnects));
        rows.extend(sum("requests", &self.requests));
        rows.extend(sum("broadcasts", &self.broadcasts));
        rows.extend(sum("blocks", &self.blocks));
        rows.extend(sum("drops", &drops));
        rows
    }
}

/// Writes rows of equal length: the first column, of a given width, to the left, the others to the right.
fn write_rows(f: &mut fmt::Formatter<'_>, rows: &[Vec<String>], first: usize) -> fmt::Result {
    let columns = rows.first().map_or(0, Vec::len);
    let width = |column: usize| rows.iter().map(|row| row[column].len()).max().unwrap_or(0).max(MIN_WIDTH);
    let widths: Vec<usize> = (1..columns).map(width).collect();
    for row in rows {
        let mut line = format!("{:<first$}", row[0]);
        for (cell, &width) in row[1..].iter().zip(&widths) {
            line.push_str(&format!("  {cell:>width$}"));
        }
        writeln!(f, "{}", line.trim_end())?;
    }
    Ok(())
}

/// What most numbers fit, so that the columns of a growing table stay where they are.
const MIN_WIDTH: usize = 10;

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(counts: &[(&str, u64)]) -> BTreeMap<String, u64> {
        counts.iter().map(|&(name, count)| (name.to_owned(), count)).collect()
    }

    fn stats() -> Stats {
        let queue = |n: u64| QueueStats { items: n, bytes: n * 100, most_items: n * 2, most_bytes: n * 300 };
        Stats {
            uptime: Duration::from_millis(12_345),
            bytes_received: 12_345_678_901,
            bytes_sent: 99,
            messages_received: counts(&[("inv", 7), ("tx", 1_000)]),
            messages_sent: counts(&[("getdata", 5), ("tx", 2)]),
            outbound_queue: queue(1),
            inbound_queue: queue(0),
            message_queue: Some(queue(100_000_000)),
            subscriptions: vec![queue(3), queue(4)],
            watches: vec![queue(5)],
            drops: Drops { unclaimed: 3, events: 1, ..Drops::default() },
            dials: 4,
            connects: 2,
            reconnects: 1,
            refusals: counts(&[("dial", 2)]),
            disconnects: counts(&[("closed_by_peer", 1)]),
            requests: counts(&[("ok", 6), ("timed_out", 1)]),
            outbox: queue(6),
            broadcasts: counts(&[("relayed", 8)]),
            blocks: counts(&[("diverged", 1), ("proven", 9)]),
        }
    }

    #[test]
    fn the_table_is_aligned() {
        let expected = "\
queue                  items        bytes  most items   most bytes
outbound                   1          100           2          300
inbound                    0            0           0            0
outbox                     6          600          12         1800
messages           100000000  10000000000   200000000  30000000000
subscription 1             3          300           6          900
subscription 2             4          400           8         1200
watch 1                    5          500          10         1500

traffic              received        sent
bytes             12345678901          99
messages                 1007           7
  getdata                   0           5
  inv                       7           0
  tx                     1000           2

count
uptime seconds          12.3
dials                      4
connects                   2
reconnects                 1
refusals                   2
  dial                     2
disconnects                1
  closed_by_peer           1
requests                   7
  ok                       6
  timed_out                1
broadcasts                 8
  relayed                  8
blocks                    10
  diverged                 1
  proven                   9
drops                      4
  events                   1
  unclaimed                3
";
        assert_eq!(stats().to_string(), expected);
    }

    #[test]
    fn before_anything_happens_there_are_zeros() {
        let table = Stats::default().to_string();
        assert!(table.lines().all(|line| line == line.trim_end()), "{table}");
        assert_eq!(table.lines().filter(|line| line.starts_with("  ")).count(), 0, "{table}");
        assert!(table.contains("\nrequests                 0\n"), "{table}");
    }
}
