//! What breaks the rules: messages at the wrong time, of the wrong form, or from somebody who should not send them.
//!
//! Sections 2.30 to 2.36, 3.3 and 3.8 of the wire specification.

use super::{End, Session};
use std::sync::Arc;

use crate::message::{CreateStrm, DsDetected, Message, Reject, RejectCode, StreamAck, StreamType};
use crate::proto::{AssociationId, BLOCK_PRIORITY, KeepalivePart, ProtocolError, Stream};
use crate::testnode::chain::proves_work;
use crate::testnode::now;
use crate::testnode::sieve::Stage;
use crate::wire::{Command, DecodeError, sha256d};

impl Session {
    /// A message that is out of turn at this stage of the handshake.
    pub(super) fn out_of_turn(&mut self, stage: Stage, command: Command, payload: &[u8]) -> Result<(), End> {
        if self.fell_silent {
            return Ok(());
        }
        match (command, stage) {
            (Command::VERSION, _) => {
                self.say(command, RejectCode::Duplicate, "Duplicate version message")?;
                self.punish(1, "a second version")
            }
            (Command::VERACK, Stage::Done) => {
                let greeting = self.greeting();
                greeting
                    .into_iter()
                    .try_for_each(|frame| self.send_over(Stream::General, |line| line.answer(frame)))
            }
            (Command::CREATESTRM, Stage::AwaitVersion) => {
                let Err(reason) = self.join_first(payload) else { return Ok(()) };
                self.say(command, RejectCode::StreamSetup, &reason)?;
                self.hang_up("a stream that joins nothing")
            }
            (Command::CREATESTRM, _) => {
                self.say(command, RejectCode::NonStandard, "Invalid createstream scenario")?;
                self.hang_up("a createstrm behind a version")
            }
            (Command::STREAMACK, Stage::AwaitVersion) => self.hang_up("a streamack that nobody waits for"),
            (Command::STREAMACK, _) => {
                self.say(command, RejectCode::NonStandard, "Invalid streamack")?;
                self.hang_up("a streamack")
            }
            (Command::FILTERLOAD | Command::FILTERADD, _) if !self.node.config.bloom => self.refuse_filter(),
            (_, Stage::AwaitVersion) => self.punish(1, "missing-version"),
            _ => self.punish(1, "missing-verack"),
        }
    }

    /// Joins this connection to the peer's first one, or says why not.
    fn join_first(&mut self, payload: &[u8]) -> Result<(), String> {
        let refusal = || Err(stream_refusal(payload));
        let Ok(Message::CreateStrm(request)) = Message::decode(Command::CREATESTRM, payload) else {
            return refusal();
        };
        let id = AssociationId::from_bytes(&request.association_id);
        let Some(first) = id.and_then(|id| self.node.world.lock().first_line(&id)) else { return refusal() };
        match request.stream_type {
            StreamType::Data1 => {}
            StreamType::General => return Err(EXISTS.to_owned()),
            // Nodes take some of the others and read none of them.
            _ => return Err("StreamType out of range".to_owned()),
        }
        if *request.stream_policy != *BLOCK_PRIORITY {
            return Err(format!("Unknown stream policy name {}", &*request.stream_policy));
        }
        let mut state = first.state();
        if state.second.is_some() || state.closed {
            return Err(EXISTS.to_owned());
        }
        let CreateStrm { association_id, stream_type, .. } = *request;
        // The acknowledgement goes before anything that the first one gives to the second.
        self.line.state().proto.accept(now(), StreamAck { association_id, stream_type });
        state.proto.set_keepalive(now(), KeepalivePart::Nothing);
        state.second = Some(Arc::clone(&self.line));
        drop(state);
        self.first = Some(first);
        self.established = true;
        self.sieve.skip_handshake();
        Ok(())
    }

    /// A message that does not hold what its command says.
    pub(super) fn malformed(&mut self, command: Command, error: &DecodeError) -> Result<(), End> {
        match command {
            // Never read by nodes.
            Command::MERKLEBLOCK | Command::HDRSEN | Command::DATAREFTX | Command::NOTFOUND => return Ok(()),
            // Read only if there is a reason to; here there is none.
            Command::REJECT | Command::REVOKEMID | Command::PONG | Command::ALERT => return Ok(()),
            Command::AUTHCH => return self.challenged(),
            Command::FILTERLOAD | Command::FILTERADD if !self.node.config.bloom => return self.refuse_filter(),
            Command::DSDETECTED => return self.punish(10, "an invalid notice of a double spend"),
            Command::AUTHRESP => return self.refuse_proof(),
            Command::HEADERS | Command::ADDR if matches!(error, DecodeError::TooManyItems { .. }) => {
                return self.punish(20, "too many items");
            }
            _ => {}
        }
        self.say(command, RejectCode::Malformed, "error parsing message")?;
        let costs = matches!(error, DecodeError::CompactSizeTooLarge { .. });
        self.punish(u32::from(costs), "a count that no message has")
    }

    /// Takes note of the peer's `version`, and ends the connection if it names a program of another chain; what is wrong
    /// with it otherwise is found later.
    pub(super) fn introduced(&mut self, payload: &[u8]) -> Result<(), End> {
        let Ok(Message::Version(version)) = Message::decode(Command::VERSION, payload) else { return Ok(()) };
        self.known().state().peer.introduce(&version);
        let user_agent = version.user_agent.to_ascii_lowercase();
        let is_banned =
            version.version >= MIN_VERSION && BANNED_USER_AGENTS.iter().any(|part| user_agent.contains(part));
        if is_banned { self.punish(100, "invalid-UA") } else { Ok(()) }
    }

    /// Says why the connection ends, where nodes do.
    pub(super) fn explain(&mut self, error: &ProtocolError) -> Result<(), End> {
        match error {
            ProtocolError::Malformed { command: Command::VERSION, error } => {
                self.say(Command::VERSION, RejectCode::StreamSetup, &error.to_string())?;
            }
            ProtocolError::ObsoleteVersion { .. } => {
                self.say(Command::VERSION, RejectCode::Obsolete, "Version must be 31800 or greater")?;
            }
            _ => return Ok(()),
        }
        self.hang_up("its version")
    }

    /// A challenge; the node has no identity to prove, but counts.
    pub(super) fn challenged(&mut self) -> Result<(), End> {
        self.proofs += 1;
        if self.proofs > MAX_PROOFS { self.punish(10, "a flood of authch and authresp") } else { Ok(()) }
    }

    /// An answer to the node's challenge, from somebody who cannot be the miner that it knows: it knows none.
    pub(super) fn refuse_proof(&mut self) -> Result<(), End> {
        self.challenged()?;
        self.say(Command::AUTHRESP, RejectCode::AuthConnSetup, NO_MINER)
    }

    /// A notice of a double spend: relayed to everybody else if it proves one.
    pub(super) fn double_spend(&mut self, notice: DsDetected) -> Result<(), End> {
        let is_proven =
            notice.check().is_ok() && notice.forks.iter().flat_map(|fork| &fork.headers).all(proves_work);
        if !is_proven {
            return self.punish(10, "an invalid notice of a double spend");
        }
        let message = Message::DsDetected(notice);
        let mut payload = Vec::new();
        message.encode_payload(&mut payload);
        if self.node.world.lock().double_spends.insert(sha256d(&payload)) {
            let others = self.node.lines(true).into_iter().filter(|line| line.whom != self.line.whom);
            others.filter(|line| !line.is_silent()).for_each(|line| line.send_now(&message));
        }
        Ok(())
    }

    /// A `reject` without a hash, at any stage of the handshake.
    pub(super) fn say(&mut self, command: Command, code: RejectCode, reason: &str) -> Result<(), End> {
        let (message, reason) = (command.as_str().into(), reason.into());
        self.send_at_once(&Reject { message, code, reason, hash: None }.into())
    }

    pub(super) fn punish(&mut self, score: u32, reason: &'static str) -> Result<(), End> {
        if score == 0 {
            return Ok(());
        }
        self.score += score;
        if let Some(number) = self.line.whom.accepted {
            self.node.world.lock().scores.insert(number, self.score);
            self.node.changed.notify_all();
        }
        if self.score < MAX_SCORE { Ok(()) } else { self.hang_up(reason) }
    }

    /// Ends the connection behind what was said before.
    pub(super) fn hang_up(&self, reason: &'static str) -> Result<(), End> {
        self.line.finish(super::FINISH_LIMIT);
        Err(End::Punished(reason))
    }
}

/// Why a node that has no associations lets no connection join one.
fn stream_refusal(payload: &[u8]) -> String {
    let Ok(Message::CreateStrm(request)) = Message::decode(Command::CREATESTRM, payload) else {
        return "Badly formatted message".to_owned();
    };
    if u8::from(request.stream_type) > LAST_STREAM_TYPE {
        return "StreamType out of range".to_owned();
    }
    match &request.association_id[..] {
        [] | [_] => "NULL association ID".to_owned(),
        [_, id @ ..] => {
            let mut text = "No node found with association ID ".to_owned();
            for (i, byte) in id.iter().take(UUID_LEN).enumerate() {
                let dash = if [4, 6, 8, 10].contains(&i) { "-" } else { "" };
                text.push_str(&format!("{dash}{byte:02x}"));
            }
            text
        }
    }
}

/// What a node says to whoever opens a stream that there is.
const EXISTS: &str = "Attempt to overwrite existing stream in move";
/// `-banscore` of the node.
const MAX_SCORE: u32 = 100;
/// `-banclientua` of the node.
const BANNED_USER_AGENTS: [&str; 3] = ["abc", "cash", "bch"];
/// `MIN_PEER_PROTO_VERSION` of the node, below which a peer is refused for that.
const MIN_VERSION: i32 = 31_800;
/// So many of `authch` and `authresp` together are no flood. A node forgets one in ten minutes.
const MAX_PROOFS: u32 = 6;
/// What a node says to whoever is not the miner it knows.
const NO_MINER: &str = "Public ip address does not match the one advertised in the miner info document.";
/// Bytes of an association id behind its type.
const UUID_LEN: usize = 16;
/// `DATA4`.
const LAST_STREAM_TYPE: u8 = 5;
