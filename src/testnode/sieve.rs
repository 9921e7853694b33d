//! What the node looks at before a connection gets its bytes: it counts the messages, leaves out those it was told to
//! ignore, and takes out the pings and what is out of turn in the handshake.
//!
//! A node answers everything in the order it came, pings included, while a `Connection` answers pings ahead of all else:
//! so those are the node's own business. So is what a `Connection` ends for and a node only gives points for (section 3.3
//! of the wire specification).

use std::ops::Range;

use crate::wire::{Command, FrameDecoder, FrameError, FrameHeader, FramePart, PayloadLimits};

/// Finds the frames in a byte stream and sorts them.
#[derive(Debug)]
pub(super) struct Sieve {
    decoder: FrameDecoder,
    /// The frame whose payload is coming.
    current: Option<(FrameHeader, Fate)>,
    /// A payload that comes in pieces, of a ping or of what is rejected.
    gathered: Vec<u8>,
    /// Whether the start of the next header came with earlier input.
    header_is_split: bool,
    stage: Stage,
}

/// How far the handshake is by what the peer has said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    AwaitVersion,
    AwaitVerack,
    Done,
}

/// What is done with a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    Pass,
    Drop,
    Ping,
    Reject,
    /// It is the peer's `version`. Only the sieve says so.
    Version,
    /// It is out of turn at this stage of the handshake. Only the sieve says so.
    Early(Stage),
}

/// What to do next with the input.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// These bytes are for the connection.
    Pass(Range<usize>),
    /// This header is for the connection; it came in two pieces, so its bytes are not in the input.
    PassHeader(FrameHeader),
    /// A whole ping's payload.
    Ping(Vec<u8>),
    /// A command and the whole payload of what is rejected.
    Reject(Command, Vec<u8>),
    /// The header and the whole payload of the peer's `version`, which the connection has not got yet.
    Version(FrameHeader, Vec<u8>),
    /// A stage of the handshake, a command and the whole payload of what is out of turn then.
    Early(Stage, Command, Vec<u8>),
}

/// What the input held.
#[derive(Debug, Default)]
pub(super) struct Sifted {
    pub(super) steps: Vec<Step>,
    /// The commands of the frames that are complete now, and how many came in a row.
    pub(super) arrived: Vec<(Command, u64)>,
}

impl Sieve {
    pub(super) fn new(magic: [u8; 4], limits: PayloadLimits) -> Self {
        let decoder = FrameDecoder::new(magic, limits);
        Self { decoder, current: None, gathered: Vec::new(), header_is_split: false, stage: Stage::AwaitVersion }
    }

    /// The connection is up without a handshake.
    pub(super) fn skip_handshake(&mut self) {
        self.stage = Stage::Done;
    }

    /// Sorts all of `input`; after an error, what came before it is in `sifted`.
    pub(super) fn sift(
        &mut self,
        input: &[u8],
        mut fate: impl FnMut(Command) -> Fate,
        sifted: &mut Sifted,
    ) -> Result<(), FrameError> {
        let mut rest = input;
        loop {
            let start = input.len() - rest.len();
            let Some(part) = self.decoder.push(&mut rest)? else {
                self.header_is_split |= self.current.is_none() && start < input.len();
                return Ok(());
            };
            let end = input.len() - rest.len();
            match part {
                FramePart::Whole(header, payload) => {
                    let fate = self.judge(header.command, fate(header.command));
                    self.begin(&header, fate, start..end - payload.len(), sifted);
                    self.payload(fate, end - payload.len()..end, input, sifted);
                    self.finish(&header, fate, sifted);
                }
                FramePart::Start(header) => {
                    let fate = self.judge(header.command, fate(header.command));
                    self.begin(&header, fate, start..end, sifted);
                    self.current = Some((header, fate));
                }
                FramePart::Chunk(_) => {
                    if let Some((_, fate)) = self.current {
                        self.payload(fate, start..end, input, sifted);
                    }
                }
                FramePart::End => {
                    if let Some((header, fate)) = self.current.take() {
                        self.finish(&header, fate, sifted);
                    }
                }
            }
        }
    }

    /// Finds what is out of turn among what the node would heed (section 3.3).
    fn judge(&mut self, command: Command, fate: Fate) -> Fate {
        let stage = self.stage;
        if !matches!(fate, Fate::Pass | Fate::Ping) {
            return fate;
        }
        match (command, stage) {
            (Command::VERSION, Stage::AwaitVersion) => {
                self.stage = Stage::AwaitVerack;
                return Fate::Version;
            }
            (Command::VERACK, Stage::AwaitVerack) => self.stage = Stage::Done,
            (Command::REJECT, _) | (Command::AUTHCH | Command::AUTHRESP, Stage::AwaitVerack) => {}
            (Command::VERSION | Command::VERACK | Command::CREATESTRM | Command::STREAMACK, _) => {
                return Fate::Early(stage);
            }
            (_, Stage::Done) => {}
            _ => return Fate::Early(stage),
        }
        fate
    }

    fn begin(&mut self, header: &FrameHeader, fate: Fate, bytes: Range<usize>, sifted: &mut Sifted) {
        let split = std::mem::take(&mut self.header_is_split);
        match fate {
            Fate::Pass if split => sifted.steps.push(Step::PassHeader(*header)),
            Fate::Pass => sifted.pass(bytes),
            Fate::Drop | Fate::Ping | Fate::Reject | Fate::Version | Fate::Early(_) => {}
        }
    }

    fn payload(&mut self, fate: Fate, bytes: Range<usize>, input: &[u8], sifted: &mut Sifted) {
        match fate {
            Fate::Pass => sifted.pass(bytes),
            Fate::Drop => {}
            Fate::Ping | Fate::Reject | Fate::Version | Fate::Early(_) => {
                self.gathered.extend_from_slice(&input[bytes])
            }
        }
    }

    fn finish(&mut self, header: &FrameHeader, fate: Fate, sifted: &mut Sifted) {
        let command = header.command;
        match sifted.arrived.last_mut() {
            Some((last, count)) if *last == command => *count += 1,
            _ => sifted.arrived.push((command, 1)),
        }
        match fate {
            Fate::Ping => sifted.steps.push(Step::Ping(std::mem::take(&mut self.gathered))),
            Fate::Reject => sifted.steps.push(Step::Reject(command, std::mem::take(&mut self.gathered))),
            Fate::Version => sifted.steps.push(Step::Version(*header, std::mem::take(&mut self.gathered))),
            Fate::Early(stage) => {
                sifted.steps.push(Step::Early(stage, command, std::mem::take(&mut self.gathered)));
            }
            Fate::Pass | Fate::Drop => {}
        }
    }
}

impl Sifted {
    fn pass(&mut self, bytes: Range<usize>) {
        match self.steps.last_mut() {
            // Neighbours go together, so that the connection sees whole frames where it can.
            Some(Step::Pass(before)) if before.end == bytes.start => before.end = bytes.end,
            _ if bytes.is_empty() => {}
            _ => self.steps.push(Step::Pass(bytes)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::Message;
    use crate::wire::{Frame, SharedBytes};

    const MAGIC: [u8; 4] = [0xda, 0xb5, 0xbf, 0xfa];

    fn unknown(name: &str, len: usize) -> Message {
        let payload = SharedBytes::copy_from(&vec![7; len]);
        Message::Unknown { command: Command::new(name).unwrap(), payload }
    }

    #[test]
    fn what_is_dropped_and_what_is_kept_do_not_depend_on_the_splits() {
        let messages = [
            unknown("keep", 40),
            Message::Ping { nonce: 1 },
            unknown("drop", 30),
            unknown("keep", 0),
            unknown("keep", 10),
            unknown("drop", 0),
            unknown("reject", 20),
            Message::Ping { nonce: 2 },
            unknown("keep", 100),
        ];
        let frames: Vec<Frame> = messages.iter().map(|message| message.to_frame(MAGIC)).collect();
        let stream: Vec<u8> = frames.iter().flat_map(|frame| frame.to_vec()).collect();
        let kept: Vec<u8> = [0, 3, 4, 8].iter().flat_map(|&i: &usize| frames[i].to_vec()).collect();
        let fate = |command: Command| match command.as_str() {
            "drop" => Fate::Drop,
            "ping" => Fate::Ping,
            "reject" => Fate::Reject,
            _ => Fate::Pass,
        };
        for size in 1..=stream.len() {
            let mut sieve = Sieve::new(MAGIC, PayloadLimits { general: 1 << 20, block: 1 << 20 });
            sieve.stage = Stage::Done;
            let (mut passed, mut pings, mut rejected, mut arrived) = (vec![], vec![], vec![], vec![]);
            for input in stream.chunks(size) {
                let mut sifted = Sifted::default();
                sieve.sift(input, fate, &mut sifted).unwrap();
                arrived.extend(sifted.arrived.into_iter().flat_map(|(command, n)| vec![command; n as usize]));
                for step in sifted.steps {
                    match step {
                        Step::Pass(range) => passed.extend_from_slice(&input[range]),
                        Step::PassHeader(header) => header.encode(&mut passed),
                        Step::Ping(payload) => pings.push((passed.len(), payload)),
                        Step::Reject(command, payload) => rejected.push((command.to_string(), payload)),
                        Step::Early(_, command, _) => panic!("{command} is out of turn behind the handshake"),
                        Step::Version(..) => panic!("a version behind the handshake"),
                    }
                }
            }
            assert_eq!(passed, kept, "chunk size {size}");
            let places = [(64, 1_u64), (64 + 24 + 34, 2)].map(|(at, nonce)| (at, nonce.to_le_bytes().to_vec()));
            assert_eq!(pings, places, "chunk size {size}");
            assert_eq!(rejected, [("reject".to_owned(), vec![7; 20])], "chunk size {size}");
            assert_eq!(arrived, messages.each_ref().map(Message::command), "chunk size {size}");
        }
    }

    #[test]
    fn what_is_out_of_turn_is_told_by_the_stage_of_the_handshake() {
        let mut sieve = Sieve::new(MAGIC, PayloadLimits { general: 1 << 20, block: 1 << 20 });
        let messages = [
            Message::GetAddr,
            Message::Verack,
            unknown("version", 0),
            Message::GetAddr,
            unknown("version", 0),
            Message::Verack,
            Message::GetAddr,
            unknown("createstrm", 0),
            unknown("version", 0),
            Message::Verack,
        ];
        let input: Vec<u8> = messages.iter().flat_map(|message| message.to_frame(MAGIC).to_vec()).collect();
        let mut sifted = Sifted::default();
        sieve.sift(&input, |_| Fate::Pass, &mut sifted).unwrap();
        let early: Vec<_> = sifted
            .steps
            .iter()
            .filter_map(
                |step| if let Step::Early(stage, command, _) = step { Some((*stage, *command)) } else { None },
            )
            .collect();
        let expected = [
            (Stage::AwaitVersion, Command::GETADDR),
            (Stage::AwaitVersion, Command::VERACK),
            (Stage::AwaitVerack, Command::GETADDR),
            (Stage::AwaitVerack, Command::VERSION),
            (Stage::Done, Command::CREATESTRM),
            (Stage::Done, Command::VERSION),
            (Stage::Done, Command::VERACK),
        ];
        assert_eq!(early, expected);
    }
}
