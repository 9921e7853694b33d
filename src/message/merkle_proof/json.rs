//! Merkle proofs in the JSON of the TSC standard: `index`, `txOrId`, `targetType`, `target`, `nodes`, `proofType` and
//! `composite`.

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::{BlockHeader, MAX_NODES, MerkleProof, ProofNode, ProofSubject, ProofTarget, Transaction};
use crate::wire::hex::{self, Digits};
use crate::wire::{SharedBytes, Txid};

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Fields {
    index: u32,
    tx_or_id: String,
    #[serde(default)]
    target_type: TargetType,
    target: String,
    nodes: Vec<String>,
    #[serde(default)]
    proof_type: ProofType,
    #[serde(default)]
    composite: bool,
}

#[derive(Serialize, Deserialize, Default)]
#[serde(rename_all = "camelCase")]
enum TargetType {
    #[default]
    Hash,
    Header,
    MerkleRoot,
}

#[derive(Serialize, Deserialize, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
enum ProofType {
    #[default]
    Branch,
    Tree,
}

impl Serialize for MerkleProof {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let (target_type, target) = match &self.target {
            ProofTarget::BlockHash(hash) => (TargetType::Hash, hash.to_string()),
            ProofTarget::Header(header) => (TargetType::Header, Digits(&header.encode()).to_string()),
            ProofTarget::MerkleRoot(root) => (TargetType::MerkleRoot, root.to_string()),
        };
        let tx_or_id = match &self.subject {
            ProofSubject::Txid(txid) => txid.to_string(),
            ProofSubject::Transaction(transaction) => Digits(transaction.raw()).to_string(),
        };
        // Every 32 bytes display as a txid does.
        let node = |node: &ProofNode| match node.hash() {
            Some(hash) => Txid::from_wire(hash).to_string(),
            None => DUPLICATE.to_owned(),
        };
        let nodes = self.nodes.iter().map(node).collect();
        let proof_type = ProofType::Branch;
        Fields { index: self.index, tx_or_id, target_type, target, nodes, proof_type, composite: false }
            .serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for MerkleProof {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let fields = Fields::deserialize(deserializer)?;
        if fields.composite || fields.proof_type != ProofType::Branch {
            return Err(D::Error::custom("only single proofs of the type \"branch\" are known"));
        }
        let subject = if fields.tx_or_id.len() == TXID_DIGITS {
            ProofSubject::Txid(fields.tx_or_id.parse().map_err(D::Error::custom)?)
        } else {
            let raw: SharedBytes = hex::parse::<D::Error>(&fields.tx_or_id)?.into();
            ProofSubject::Transaction(Transaction::from_raw(raw).map_err(D::Error::custom)?)
        };
        let target = match fields.target_type {
            TargetType::Hash => ProofTarget::BlockHash(fields.target.parse().map_err(D::Error::custom)?),
            TargetType::MerkleRoot => ProofTarget::MerkleRoot(fields.target.parse().map_err(D::Error::custom)?),
            TargetType::Header => {
                let bytes = hex::parse::<D::Error>(&fields.target)?;
                let bytes = bytes.as_slice().try_into();
                let bytes = bytes.map_err(|_| D::Error::custom("a header has 80 bytes"))?;
                ProofTarget::Header(Box::new(BlockHeader::decode(bytes)))
            }
        };
        if fields.nodes.len() > MAX_NODES {
            return Err(D::Error::custom("more nodes than a merkle tree has levels"));
        }
        let node = |text: &String| match text.as_str() {
            DUPLICATE => Ok(ProofNode::Duplicate),
            hash => hash.parse().map(|hash: Txid| ProofNode::from(*hash.as_wire())),
        };
        let nodes = fields.nodes.iter().map(node).collect::<Result<_, _>>().map_err(D::Error::custom)?;
        Ok(Self { index: fields.index, subject, target, nodes })
    }
}

const DUPLICATE: &str = "*";
/// A transaction that spends anything has more than 32 bytes.
const TXID_DIGITS: usize = 64;
