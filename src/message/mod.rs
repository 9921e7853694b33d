//! Layer 2: what a frame's payload says. The [`Message`] enum, and one file for each family of payloads.
//!
//! Pure: no I/O, no clock, no locks. Implements sections 2 and 6 of the wire specification, which follows the node's
//! `src/net/net_processing.cpp` and `src/protocol.cpp`. Bytes behind the last known field of a payload are ignored,
//! as the node does; no count or length is believed before the bytes are there.

mod address;
mod alert;
mod auth;
mod block;
mod bloom;
mod compact;
mod double_spend;
mod enriched;
mod feature;
mod filter;
mod headers;
mod inventory;
mod locator;
mod merkle_block;
mod merkle_proof;
mod miner_id;
mod payload;
mod protoconf;
mod reconstruct;
mod reject;
mod script;
mod short_id;
mod stream;
mod text;
mod transaction;
mod version;

pub use address::{NetworkAddress, TimestampedAddress};
pub use alert::{Alert, AlertDetails};
pub use auth::{AuthCh, AuthResp};
pub use block::{Block, BlockHeader, Transactions};
pub use bloom::{BloomFilter, FilterError, FilterUpdate};
pub use compact::{BlockTxn, CompactBlock, GetBlockTxn, Prefilled};
pub use double_spend::{DoubleSpendError, DoubleSpendFork, DsDetected};
pub use enriched::EnrichedHeader;
pub use feature::SendCmpct;
pub use filter::{FilterAdd, FilterLoad};
pub use inventory::{Inventory, InventoryKind};
pub use locator::{GetBlocks, GetHdrsEn, GetHeaders};
pub use merkle_block::MerkleBlock;
pub use merkle_proof::{MerkleProof, ProofError, ProofNode, ProofSubject, ProofTarget, ProvenTransaction};
pub use miner_id::{RevokeMid, Signature};
pub use protoconf::ProtoConf;
pub use reconstruct::{CompactBlockError, PartialBlock, Reconstruction};
pub use reject::{Reject, RejectCode};
pub use short_id::{ShortId, ShortIdKey};
pub use stream::{CreateStrm, StreamAck, StreamType};
pub use text::Text;
pub use transaction::{
    Inputs, OutPoint, Outputs, Transaction, TransactionInput, TransactionOutput, TransactionView,
};
pub use version::{PROTOCOL_VERSION, Services, Version};

#[cfg(feature = "serde")]
use crate::wire::hex;
use crate::wire::{Command, DecodeError, Frame, Reader, SharedBytes};
use payload::Payload;

/// A decoded message.
///
/// A command without a variant of its own is a value too, [`Message::Unknown`].
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(tag = "command", content = "payload", rename_all = "lowercase"))]
pub enum Message {
    /// `version`: opens a connection.
    Version(Box<Version>),
    /// `verack`: accepts the other side's `version`. No payload.
    Verack,
    /// `ping`: asks for a `pong` with the same nonce (8 bytes, little-endian).
    Ping {
        /// Chosen by the sender.
        nonce: u64,
    },
    /// `pong`: answers a `ping`.
    Pong {
        /// That of the `ping`.
        nonce: u64,
    },
    /// `protoconf`: what the sender accepts.
    ProtoConf(ProtoConf),
    /// `inv`: announces transactions or blocks.
    Inv(Vec<Inventory>),
    /// `getdata`: asks for them.
    GetData(Vec<Inventory>),
    /// `notfound`: says that they are not there to give.
    NotFound(Vec<Inventory>),
    /// `tx`: one transaction.
    Tx(Transaction),
    /// `block`: a whole block.
    Block(Block),
    /// `getheaders`: asks for the headers after a locator.
    GetHeaders(GetHeaders),
    /// `headers`: up to 2,000 block headers, each followed by a transaction count that means nothing (a compact
    /// size, written as 0).
    Headers(Vec<BlockHeader>),
    /// `getaddr`: asks for addresses of other peers. No payload.
    GetAddr,
    /// `addr`: up to 1,000 addresses.
    Addr(Vec<TimestampedAddress>),
    /// `reject`: says why a message was refused.
    Reject(Box<Reject>),
    /// `sendheaders`: asks to announce blocks by `headers`. No payload.
    SendHeaders,
    /// `feefilter`: asks not to announce cheaper transactions (8 bytes, little-endian).
    FeeFilter {
        /// The lowest fee wanted, for 1,000 bytes.
        satoshis_per_kilobyte: i64,
    },
    /// `sendcmpct`: asks for compact blocks.
    SendCmpct(SendCmpct),
    /// `authch`: challenges the peer to prove who it is.
    AuthCh(AuthCh),
    /// `getblocks`: asks for an `inv` of the blocks after a locator.
    GetBlocks(GetBlocks),
    /// `gethdrsen`: asks for enriched headers.
    GetHdrsEn(GetHdrsEn),
    /// `hdrsen`: up to 2,000 enriched headers.
    HdrsEn(Vec<EnrichedHeader>),
    /// `sendhdrsen`: asks to announce blocks by `hdrsen`. No payload.
    SendHdrsEn,
    /// `mempool`: asks for an `inv` of the transactions a node holds; most nodes end the connection instead.
    ///
    /// No payload, or a flag of one byte and, if it is not zero, 8 bytes, little-endian.
    Mempool {
        /// The least age of the transactions wanted, in seconds; `None` for all.
        #[cfg_attr(feature = "serde", serde(default))]
        age_seconds: Option<i64>,
    },
    /// `filterload`: sets the filter for transactions.
    FilterLoad(FilterLoad),
    /// `filteradd`: adds to the filter.
    FilterAdd(FilterAdd),
    /// `filterclear`: removes the filter. No payload.
    FilterClear,
    /// `merkleblock`: proves the transactions of a block that match the filter.
    MerkleBlock(Box<MerkleBlock>),
    /// `cmpctblock`: a block with short ids for most transactions.
    CmpctBlock(Box<CompactBlock>),
    /// `getblocktxn`: asks for the transactions that a `cmpctblock` left out.
    GetBlockTxn(GetBlockTxn),
    /// `blocktxn`: gives them.
    BlockTxn(Box<BlockTxn>),
    /// `datareftx`: a transaction with the proof that it is in a block.
    DataRefTx(Box<ProvenTransaction>),
    /// `createstrm`: joins a new connection to an association.
    CreateStrm(Box<CreateStrm>),
    /// `streamack`: accepts it.
    StreamAck(StreamAck),
    /// `dsdetected`: rival forks spend the same output.
    DsDetected(DsDetected),
    /// `revokemid`: a miner gives up an identity.
    RevokeMid(Box<RevokeMid>),
    /// `authresp`: answers an `authch`.
    AuthResp(Box<AuthResp>),
    /// `alert`: a signed notice of old.
    Alert(Alert),
    /// A command that SV Node does not define, with its payload as it came.
    Unknown {
        /// The command.
        command: Command,
        /// The payload.
        #[cfg_attr(feature = "serde", serde(with = "hex::bytes"))]
        payload: SharedBytes,
    },
}

impl From<Reject> for Message {
    fn from(reject: Reject) -> Self {
        Self::Reject(Box::new(reject))
    }
}

impl From<Version> for Message {
    fn from(version: Version) -> Self {
        Self::Version(Box::new(version))
    }
}

impl Message {
    /// The command this message travels under.
    #[must_use]
    pub const fn command(&self) -> Command {
        match self {
            Self::Version(_) => Command::VERSION,
            Self::Verack => Command::VERACK,
            Self::Ping { .. } => Command::PING,
            Self::Pong { .. } => Command::PONG,
            Self::ProtoConf(_) => Command::PROTOCONF,
            Self::Inv(_) => Command::INV,
            Self::GetData(_) => Command::GETDATA,
            Self::NotFound(_) => Command::NOTFOUND,
            Self::Tx(_) => Command::TX,
            Self::Block(_) => Command::BLOCK,
            Self::GetHeaders(_) => Command::GETHEADERS,
            Self::Headers(_) => Command::HEADERS,
            Self::GetAddr => Command::GETADDR,
            Self::Addr(_) => Command::ADDR,
            Self::Reject(_) => Command::REJECT,
            Self::SendHeaders => Command::SENDHEADERS,
            Self::FeeFilter { .. } => Command::FEEFILTER,
            Self::SendCmpct(_) => Command::SENDCMPCT,
            Self::AuthCh(_) => Command::AUTHCH,
            Self::GetBlocks(_) => Command::GETBLOCKS,
            Self::GetHdrsEn(_) => Command::GETHDRSEN,
            Self::HdrsEn(_) => Command::HDRSEN,
            Self::SendHdrsEn => Command::SENDHDRSEN,
            Self::Mempool { .. } => Command::MEMPOOL,
            Self::FilterLoad(_) => Command::FILTERLOAD,
            Self::FilterAdd(_) => Command::FILTERADD,
            Self::FilterClear => Command::FILTERCLEAR,
            Self::MerkleBlock(_) => Command::MERKLEBLOCK,
            Self::CmpctBlock(_) => Command::CMPCTBLOCK,
            Self::GetBlockTxn(_) => Command::GETBLOCKTXN,
            Self::BlockTxn(_) => Command::BLOCKTXN,
            Self::DataRefTx(_) => Command::DATAREFTX,
            Self::CreateStrm(_) => Command::CREATESTRM,
            Self::StreamAck(_) => Command::STREAMACK,
            Self::DsDetected(_) => Command::DSDETECTED,
            Self::RevokeMid(_) => Command::REVOKEMID,
            Self::AuthResp(_) => Command::AUTHRESP,
            Self::Alert(_) => Command::ALERT,
            Self::Unknown { command, .. } => *command,
        }
    }

    /// Decodes a payload, copying what the message keeps of it.
    ///
    /// # Errors
    ///
    /// What is wrong with the payload; an unknown command is never an error.
    pub fn decode(command: Command, payload: &[u8]) -> Result<Self, DecodeError> {
        match command {
            // These keep their bytes.
            Command::TX | Command::BLOCK => Self::decode_shared(command, SharedBytes::copy_from(payload), None),
            _ => Self::decode_fields(command, Payload::Borrowed(payload)),
        }
    }

    /// Decodes a payload, sharing the bytes that the message keeps: of transactions, blocks and unknown commands.
    ///
    /// They are copied only where sharing would hold a buffer of more than twice their size in memory. `digest` is
    /// the double SHA-256 of the whole payload if the checksum has already cost it: it saves hashing a transaction
    /// again. It is trusted.
    ///
    /// # Errors
    ///
    /// What is wrong with the payload; an unknown command is never an error.
    pub fn decode_shared(
        command: Command,
        payload: SharedBytes,
        digest: Option<&[u8; 32]>,
    ) -> Result<Self, DecodeError> {
        Self::decode_in_place(command, payload, digest).map(Self::compacted)
    }

    /// As [`decode_shared`](Self::decode_shared), but a transaction shares its bytes however large the buffer, until it
    /// is [`compacted`](Self::compacted).
    pub(crate) fn decode_in_place(
        command: Command,
        payload: SharedBytes,
        digest: Option<&[u8; 32]>,
    ) -> Result<Self, DecodeError> {
        match command {
            Command::TX => Ok(Self::Tx(Transaction::from_payload(payload, digest)?)),
            Command::BLOCK => Ok(Self::Block(Block::from_payload(payload)?)),
            _ => Self::decode_fields(command, Payload::Shared(&payload)),
        }
    }

    /// This message, its bytes copied if sharing them would hold more than twice their size in memory.
    pub(crate) fn compacted(self) -> Self {
        match self {
            Self::Tx(transaction) => Self::Tx(transaction.compacted()),
            // The others were compacted as they were decoded.
            other => other,
        }
    }

    /// Decodes a message that is taken apart, and may keep parts of its payload.
    fn decode_fields(command: Command, payload: Payload<'_>) -> Result<Self, DecodeError> {
        let reader = &mut Reader::new(payload.bytes());
        Ok(match command {
            Command::INV => Self::Inv(inventory::read(reader)?),
            Command::GETDATA => Self::GetData(inventory::read(reader)?),
            Command::NOTFOUND => Self::NotFound(inventory::read(reader)?),
            Command::HEADERS => Self::Headers(headers::read(reader)?),
            Command::GETHEADERS => Self::GetHeaders(GetHeaders::read(reader)?),
            Command::PING => Self::Ping { nonce: reader.u64()? },
            Command::PONG => Self::Pong { nonce: reader.u64()? },
            Command::REJECT => Self::Reject(Box::new(Reject::read(reader)?)),
            Command::ADDR => Self::Addr(address::read(reader)?),
            Command::VERSION => Self::Version(Box::new(Version::read(reader)?)),
            Command::VERACK => Self::Verack,
            Command::PROTOCONF => Self::ProtoConf(ProtoConf::read(reader)?),
            Command::GETADDR => Self::GetAddr,
            Command::SENDHEADERS => Self::SendHeaders,
            Command::FEEFILTER => Self::FeeFilter { satoshis_per_kilobyte: reader.i64()? },
            Command::SENDCMPCT => Self::SendCmpct(SendCmpct::read(reader)?),
            Command::AUTHCH => Self::AuthCh(AuthCh::read(reader)?),
            Command::GETBLOCKS => Self::GetBlocks(GetBlocks::read(reader)?),
            Command::GETHDRSEN => Self::GetHdrsEn(GetHdrsEn::read(reader)?),
            Command::HDRSEN => Self::HdrsEn(enriched::read(reader, payload)?),
            Command::SENDHDRSEN => Self::SendHdrsEn,
            Command::MEMPOOL => Self::Mempool {
                age_seconds: if !reader.is_empty() && reader.bool()? { Some(reader.i64()?) } else { None },
            },
            Command::FILTERLOAD => Self::FilterLoad(FilterLoad::read(reader)?),
            Command::FILTERADD => Self::FilterAdd(FilterAdd::read(reader)?),
            Command::FILTERCLEAR => Self::FilterClear,
            Command::MERKLEBLOCK => Self::MerkleBlock(Box::new(MerkleBlock::read(reader)?)),
            Command::CMPCTBLOCK => Self::CmpctBlock(Box::new(CompactBlock::read(reader, payload)?)),
            Command::GETBLOCKTXN => Self::GetBlockTxn(GetBlockTxn::read(reader)?),
            Command::BLOCKTXN => Self::BlockTxn(Box::new(BlockTxn::read(reader, payload)?)),
            Command::DATAREFTX => Self::DataRefTx(Box::new(ProvenTransaction::read(reader, payload)?)),
            Command::CREATESTRM => Self::CreateStrm(Box::new(CreateStrm::read(reader)?)),
            Command::STREAMACK => Self::StreamAck(StreamAck::read(reader)?),
            Command::DSDETECTED => Self::DsDetected(DsDetected::read(reader, payload)?),
            Command::REVOKEMID => Self::RevokeMid(Box::new(RevokeMid::read(reader)?)),
            Command::AUTHRESP => Self::AuthResp(Box::new(AuthResp::read(reader)?)),
            Command::ALERT => Self::Alert(Alert::read(reader)?),
            _ => Self::Unknown { command, payload: payload.keep_all() },
        })
    }

    /// Appends the payload.
    pub fn encode_payload(&self, out: &mut Vec<u8>) {
        match self {
            Self::Verack | Self::GetAddr | Self::SendHeaders | Self::SendHdrsEn | Self::FilterClear => {}
            Self::Version(version) => version.write(out),
            Self::Ping { nonce } | Self::Pong { nonce } => out.extend_from_slice(&nonce.to_le_bytes()),
            Self::ProtoConf(protoconf) => protoconf.write(out),
            Self::Inv(items) | Self::GetData(items) | Self::NotFound(items) => inventory::write(items, out),
            Self::Tx(transaction) => out.extend_from_slice(transaction.raw()),
            Self::Block(block) => out.extend_from_slice(block.raw()),
            Self::GetHeaders(request) => request.write(out),
            Self::Headers(list) => headers::write(list, out),
            Self::Addr(addresses) => address::write(addresses, out),
            Self::Reject(reject) => reject.write(out),
            Self::FeeFilter { satoshis_per_kilobyte } => {
                out.extend_from_slice(&satoshis_per_kilobyte.to_le_bytes());
            }
            Self::SendCmpct(sendcmpct) => sendcmpct.write(out),
            Self::AuthCh(authch) => authch.write(out),
            Self::GetBlocks(request) => request.write(out),
            Self::GetHdrsEn(request) => request.write(out),
            Self::HdrsEn(items) => enriched::write(items, out),
            Self::Mempool { age_seconds } => {
                if let Some(age) = age_seconds {
                    out.push(1);
                    out.extend_from_slice(&age.to_le_bytes());
                }
            }
            Self::FilterLoad(filter) => filter.write(out),
            Self::FilterAdd(element) => element.write(out),
            Self::MerkleBlock(block) => block.write(out),
            Self::CmpctBlock(block) => block.write(out),
            Self::GetBlockTxn(request) => request.write(out),
            Self::BlockTxn(answer) => answer.write(out),
            Self::DataRefTx(proven) => proven.write(out),
            Self::CreateStrm(request) => request.write(out),
            Self::StreamAck(answer) => answer.write(out),
            Self::DsDetected(notice) => notice.write(out),
            Self::RevokeMid(revocation) => revocation.write(out),
            Self::AuthResp(answer) => answer.write(out),
            Self::Alert(alert) => alert.write(out),
            Self::Unknown { payload, .. } => out.extend_from_slice(payload),
        }
    }

    /// Encodes the whole frame for the network with this magic.
    #[must_use]
    pub fn to_frame(&self, magic: [u8; 4]) -> Frame {
        match self {
            // The txid is the payload's digest, so nothing is hashed again.
            Self::Tx(transaction) => {
                Frame::with_digest(magic, Command::TX, transaction.raw(), transaction.txid().as_wire())
            }
            _ => Frame::encode_sized(magic, self.command(), self.payload_len_hint(), |out| {
                self.encode_payload(out);
            }),
        }
    }

    /// Room that holds the payload: exact, or a little more. Only speed depends on it.
    fn payload_len_hint(&self) -> usize {
        const LARGEST_COMPACT_SIZE: usize = 9;
        match self {
            Self::Verack | Self::GetAddr | Self::SendHeaders | Self::SendHdrsEn | Self::FilterClear => 0,
            Self::Inv(items) | Self::GetData(items) | Self::NotFound(items) => {
                LARGEST_COMPACT_SIZE + items.len() * Inventory::LEN
            }
            Self::Tx(transaction) => transaction.raw().len(),
            Self::Block(block) => block.raw().len(),
            Self::GetHeaders(GetHeaders { locator, .. })
            | Self::GetHdrsEn(GetHdrsEn { locator, .. })
            | Self::GetBlocks(GetBlocks { locator, .. }) => 36 + LARGEST_COMPACT_SIZE + locator.len() * 32,
            Self::HdrsEn(items) => LARGEST_COMPACT_SIZE + items.iter().map(EnrichedHeader::len_hint).sum::<usize>(),
            Self::FilterLoad(filter) => 2 * LARGEST_COMPACT_SIZE + filter.filter.len(),
            Self::FilterAdd(element) => LARGEST_COMPACT_SIZE + element.data.len(),
            Self::MerkleBlock(block) => block.len_hint(),
            Self::CmpctBlock(block) => block.len_hint(),
            Self::GetBlockTxn(request) => 32 + LARGEST_COMPACT_SIZE + request.indexes().len() * 5,
            Self::BlockTxn(answer) => answer.len_hint(),
            Self::DataRefTx(proven) => proven.len_hint(),
            Self::DsDetected(notice) => notice.len_hint(),
            Self::Alert(alert) => 2 * LARGEST_COMPACT_SIZE + alert.payload.len() + alert.signature.len(),
            Self::Headers(list) => LARGEST_COMPACT_SIZE + list.len() * headers::ITEM_LEN,
            Self::Addr(addresses) => LARGEST_COMPACT_SIZE + addresses.len() * TimestampedAddress::LEN,
            Self::Unknown { payload, .. } => payload.len(),
            Self::Version(_)
            | Self::ProtoConf(_)
            | Self::Reject(_)
            | Self::CreateStrm(_)
            | Self::StreamAck(_)
            | Self::RevokeMid(_)
            | Self::AuthResp(_) => 256,
            Self::Ping { .. }
            | Self::Pong { .. }
            | Self::FeeFilter { .. }
            | Self::SendCmpct(_)
            | Self::Mempool { .. }
            | Self::AuthCh(_) => 40,
        }
    }
}
