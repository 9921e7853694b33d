//! Raw transactions made from bytes alone, valid and invalid, to feed an SV Node.
//! Their money sits in outputs whose script is just OP_TRUE: spending one needs no signature.

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::hex;
use super::sv_node::SvNode;

/// An OP_TRUE output, to be spent by anybody.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Coin {
    /// In wire order.
    pub(crate) txid: [u8; 32],
    pub(crate) index: u32,
    /// In satoshis.
    pub(crate) value: u64,
}

/// Confirmed coins of one parent transaction, each of which is given out once.
pub(crate) struct Funding {
    coins: Vec<Coin>,
}

impl Funding {
    /// Has the node's wallet pay for `count` coins, and mines them; 101 blocks more if it has no money yet.
    ///
    /// Only this node is sure to have the block on return, so wait for it on others.
    pub(crate) fn new(node: &SvNode, count: u32) -> Self {
        Self::of_value(node, count, COIN_VALUE)
    }

    /// The same of coins each of which pays for a spend of `size` bytes, which may be hundreds of megabytes.
    pub(crate) fn for_size(node: &SvNode, count: u32, size: usize) -> Self {
        Self::of_value(node, count, COIN_VALUE + size as u64 / BYTES_PER_SATOSHI)
    }

    fn of_value(node: &SvNode, count: u32, value: u64) -> Self {
        let target = u64::from(count) * value;
        let (inputs, change_script) = wallet_coins(node, target + funding_fee(count));
        let total: u64 = inputs.iter().map(|input| input.value).sum();
        let mut outputs = vec![to_anybody(value); count as usize];
        outputs.push(Output { value: total - target - funding_fee(count), script: change_script });

        let raw = sign(node, &transaction(&inputs, &outputs), json!([]));
        let sent = node.send_raw_transaction(&raw);
        assert_eq!(sent, Ok(txid(&raw)), "the funding transaction is accepted");
        node.generate(1);
        let confirmations = &node.rpc("getrawtransaction", json!([txid(&raw), true]))["confirmations"];
        assert_eq!(*confirmations, json!(1), "the funding transaction is mined");

        let txid = double_sha256(&raw);
        let coins = (0..count).rev().map(|index| Coin { txid, index, value }).collect();
        Self { coins }
    }

    /// Has the node's wallet pay for `each` coins of each of `parents` transactions, and mines them.
    ///
    /// Spends of one and the same transaction are validated one after the other; those that follow each other here have
    /// different parents.
    pub(crate) fn spread(node: &SvNode, parents: u32, each: u32) -> Self {
        let value = u64::from(each) * COIN_VALUE + funding_fee(each);
        let roots = Self::of_value(node, parents, value);
        let parents: Vec<_> = { roots.coins }
            .into_iter()
            .map(|root| transaction(&[root], &vec![to_anybody(COIN_VALUE); each as usize]))
            .collect();
        for raw in &parents {
            assert_eq!(node.send_raw_transaction(raw), Ok(txid(raw)), "the parent is accepted");
        }
        node.generate(1);
        let txids: Vec<_> = parents.iter().map(|raw| double_sha256(raw)).collect();
        let coins =
            (0..each).flat_map(|index| txids.iter().map(move |&txid| Coin { txid, index, value: COIN_VALUE }));
        Self { coins: coins.collect() }
    }

    /// A coin that was not given out yet.
    pub(crate) fn take(&mut self) -> Coin {
        self.coins.pop().expect("more coins were asked for than funded")
    }
}

/// A valid spend of `size` bytes, with an OP_RETURN output as padding; at least 72 bytes.
///
/// Two sizes behind each step of the padding's length field do not exist, 323 and 324 first: they panic.
pub(crate) fn spend(coin: Coin, size: usize) -> Vec<u8> {
    let kept = to_anybody(change(coin, size));
    let unpadded = transaction(&[coin], std::slice::from_ref(&kept)).len();
    let padding = (1..=5).find_map(|length_field| {
        let script_size = size.checked_sub(unpadded + size_of::<u64>() + length_field)?;
        let fits = compact_size(script_size as u64).len() == length_field && script_size >= DATA_ONLY.len();
        fits.then_some(script_size)
    });
    let padding = padding.unwrap_or_else(|| panic!("no padding makes a transaction of {size} bytes"));
    // Zeroed by the allocator: filling megabytes one by one takes seconds without optimisation.
    let mut script = vec![0; padding];
    script[..DATA_ONLY.len()].copy_from_slice(&DATA_ONLY);
    transaction(&[coin], &[kept, Output { value: 0, script }])
}

/// `count` valid spends of the same coin, of which a node takes one.
pub(crate) fn rivals(coin: Coin, count: usize) -> Vec<Vec<u8>> {
    let rival = |number| {
        let value = change(coin, 0) - number as u64;
        transaction(&[coin], &[to_anybody(value)])
    };
    (0..count).map(rival).collect()
}

/// `count` valid spends, each of the one before.
pub(crate) fn chain(mut coin: Coin, count: usize) -> Vec<Vec<u8>> {
    let mut links = Vec::with_capacity(count);
    for _ in 0..count {
        let value = change(coin, 0);
        let raw = transaction(&[coin], &[to_anybody(value)]);
        coin = Coin { txid: double_sha256(&raw), index: 0, value };
        links.push(raw);
    }
    links
}

/// Not final before a far height: a node keeps it apart from its mempool, and relays it.
pub(crate) fn non_final(coin: Coin) -> Vec<u8> {
    let mut raw = transaction(&[coin], &[to_anybody(change(coin, 0))]);
    // The sequence number of its only input lies behind the version, a count, the output it spends and an empty script.
    let sequence = 4 + 1 + 36 + 1;
    raw[sequence..sequence + 4].copy_from_slice(&0_u32.to_le_bytes());
    let lock_time = raw.len() - 4;
    raw[lock_time..].copy_from_slice(&FAR_HEIGHT.to_le_bytes());
    raw
}

/// Pays nothing to an output that could be spent: reject 0x40 `dust` from a [strict](super::sv_node::SvNodeOptions::strict)
/// node; others take it.
pub(crate) fn dust(coin: Coin) -> Vec<u8> {
    transaction(&[coin], &[to_anybody(change(coin, 0)), to_anybody(0)])
}

/// Over what a strict node takes: reject 0x40 `tx-size`; others take it.
pub(crate) fn oversized(coin: Coin) -> Vec<u8> {
    spend(coin, 150_000)
}

/// Ends within its output, so nobody can read it: reject 0x01 `error parsing message`, without a hash.
pub(crate) fn malformed(coin: Coin) -> Vec<u8> {
    let mut raw = spend(coin, 200);
    raw.truncate(150);
    raw
}

/// Spends what does not exist: not a word, and a question for the parent.
pub(crate) fn orphan(number: u32) -> Vec<u8> {
    let coin = Coin { txid: double_sha256(&number.to_le_bytes()), index: 0, value: COIN_VALUE };
    transaction(&[coin], &[to_anybody(change(coin, 0))])
}

/// Pays out more than it takes in: reject 0x10 `bad-txns-in-belowout`, a score of 100, and a closed connection.
pub(crate) fn overspend(coin: Coin) -> Vec<u8> {
    transaction(&[coin], &[to_anybody(coin.value + 1)])
}

/// Mines a block and spends its coinbase at once: reject 0x10 `bad-txns-premature-spend-of-coinbase`, no score.
pub(crate) fn immature_coinbase_spend(node: &SvNode) -> Vec<u8> {
    let block = node.generate(1).pop().expect("one block was mined");
    let coinbase = node.rpc("getblock", json!([block, 1]))["tx"][0].take();
    let output = node.rpc("getrawtransaction", json!([coinbase, true]))["vout"][0].take();
    let coin = Coin { txid: wire_hash(&coinbase), index: 0, value: satoshis(&output["value"]) };

    let unsigned = transaction(&[coin], &[to_anybody(change(coin, 0))]);
    let spent = json!([{
        "txid": coinbase,
        "vout": coin.index,
        "scriptPubKey": output["scriptPubKey"]["hex"],
        "amount": output["value"],
    }]);
    sign(node, &unsigned, spent)
}

/// The id of a raw transaction, in display order.
pub(crate) fn txid(raw: &[u8]) -> String {
    let mut hash = double_sha256(raw);
    hash.reverse();
    hex::encode(&hash)
}

#[derive(Clone)]
struct Output {
    value: u64,
    script: Vec<u8>,
}

fn to_anybody(value: u64) -> Output {
    let script = vec![OP_TRUE];
    Output { value, script }
}

/// A transaction without signatures.
fn transaction(inputs: &[Coin], outputs: &[Output]) -> Vec<u8> {
    let mut raw = 1_u32.to_le_bytes().to_vec();
    raw.extend(compact_size(inputs.len() as u64));
    for input in inputs {
        raw.extend(input.txid);
        raw.extend(input.index.to_le_bytes());
        raw.extend(compact_size(0));
        raw.extend(u32::MAX.to_le_bytes());
    }
    raw.extend(compact_size(outputs.len() as u64));
    for output in outputs {
        raw.extend(output.value.to_le_bytes());
        raw.extend(compact_size(output.script.len() as u64));
        raw.extend(&output.script);
    }
    raw.extend(0_u32.to_le_bytes());
    raw
}

fn compact_size(value: u64) -> Vec<u8> {
    let bytes = value.to_le_bytes();
    match value {
        0..=0xfc => bytes[..1].to_vec(),
        0xfd..=0xffff => [&[0xfd], &bytes[..2]].concat(),
        0x1_0000..=0xffff_ffff => [&[0xfe], &bytes[..4]].concat(),
        _ => [&[0xff], &bytes[..]].concat(),
    }
}

/// What is left of a coin after the fee for a transaction of this size.
fn change(coin: Coin, size: usize) -> u64 {
    let fee = 1 + size as u64 / BYTES_PER_SATOSHI;
    coin.value.checked_sub(fee).expect("a coin pays for its spend")
}

/// Far more than the signed inputs can add to the size of the outputs.
fn funding_fee(count: u32) -> u64 {
    10_000 + u64::from(count)
}

/// Coins of the node's wallet that are worth at least `total`, and a script that pays the wallet.
fn wallet_coins(node: &SvNode, total: u64) -> (Vec<Coin>, Vec<u8>) {
    // Every round brings a mature block reward more at least.
    for _ in 0..MINING_ROUNDS {
        let mut coins = Vec::new();
        let mut sum = 0;
        let unspent = node.rpc("listunspent", json!([]));
        for entry in unspent.as_array().expect("a list of outputs") {
            let index = entry["vout"].as_u64().expect("an output index") as u32;
            let coin = Coin { txid: wire_hash(&entry["txid"]), index, value: satoshis(&entry["amount"]) };
            coins.push(coin);
            sum += coin.value;
            if sum >= total {
                return (coins, hex::decode(text(&entry["scriptPubKey"])));
            }
        }
        node.generate(COINBASE_MATURITY + 1);
    }
    panic!("the wallet does not come by {total} satoshis");
}

/// Signs with the node's wallet; `spent` describes outputs that the wallet would not find by itself.
fn sign(node: &SvNode, raw: &[u8], spent: Value) -> Vec<u8> {
    let signed = node.rpc("signrawtransaction", json!([hex::encode(raw), spent]));
    assert_eq!(signed["complete"], json!(true), "the wallet can sign: {}", signed["errors"]);
    hex::decode(text(&signed["hex"]))
}

fn double_sha256(bytes: &[u8]) -> [u8; 32] {
    Sha256::digest(Sha256::digest(bytes)).into()
}

fn wire_hash(displayed: &Value) -> [u8; 32] {
    let mut hash = hex::decode(text(displayed));
    hash.reverse();
    hash.try_into().expect("a hash of 32 bytes")
}

fn satoshis(amount: &Value) -> u64 {
    (amount.as_f64().expect("an amount") * 1e8).round() as u64
}

fn text(value: &Value) -> &str {
    value.as_str().expect("a string")
}

const OP_TRUE: u8 = 0x51;
/// OP_FALSE OP_RETURN: whatever follows is data.
const DATA_ONLY: [u8; 2] = [0x00, 0x6a];

/// Enough for a spend of 20 MB, and the first block reward pays for almost 100,000 coins.
const COIN_VALUE: u64 = 50_000;
/// Twice the fee that the node asks for.
const BYTES_PER_SATOSHI: u64 = 500;

const FAR_HEIGHT: u32 = 400_000_000;
const COINBASE_MATURITY: u32 = 100;
const MINING_ROUNDS: usize = 5;
