//! The networks: what tells one from another on the wire and where its peers are found.
//!
//! Section 1.3 of the wire specification (the node's `src/chainparams.cpp`); the fork markers are section 5 of the
//! header chain's reference.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use crate::wire::BlockHash;

/// A Bitcoin SV network.
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Network {
    /// The main network.
    Main,
    /// The public test network.
    Test,
    /// The scaling test network (STN).
    Scaling,
    /// A private chain on one's own nodes.
    Regtest,
    /// A network with parameters of its own, such as nodes run with `-magicbytes`.
    Custom(Arc<CustomNetwork>),
}

/// The parameters of a network that SV Node does not know by name.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct CustomNetwork {
    /// What it is called in logs and errors.
    pub name: String,
    /// The four bytes every frame starts with.
    #[cfg_attr(feature = "serde", serde(with = "crate::wire::hex::array"))]
    pub magic: [u8; 4],
    /// The port of a peer named without one.
    pub port: u16,
    /// Host names that resolve to peers.
    pub seeds: Vec<String>,
    /// The first block.
    pub genesis: BlockHash,
    /// What tells its chain from others with the same magic; `None` if there are none, and peers are not asked.
    #[cfg_attr(feature = "serde", serde(default))]
    pub fork_marker: Option<ForkMarker>,
}

/// The block by which a peer on this network's chain is told from one on another chain that shares its beginning.
///
/// Other chains may share magic, ports and early blocks with a network, as BCH and XEC do with the main network. A peer
/// is asked for the headers behind the newest block of `locator` that it has, up to `marker`: on the right chain the
/// first header it sends is the marker's.
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct ForkMarker {
    /// Blocks that other chains have, too, newest first; the first of them is the marker's parent. The genesis block
    /// need not be listed.
    pub locator: Vec<ForkPoint>,
    /// The first block that only the right chain has.
    pub marker: BlockHash,
    /// The height of `marker`.
    pub height: u32,
}

/// A block that several chains have in common.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct ForkPoint {
    /// The block.
    pub hash: BlockHash,
    /// The block that follows it on the right chain, if that is known: whoever has another one is on another chain.
    #[cfg_attr(feature = "serde", serde(default))]
    pub next: Option<BlockHash>,
}

impl ForkMarker {
    /// A marker with the blocks before it that other chains share, newest first.
    #[must_use]
    pub fn new(locator: impl Into<Vec<ForkPoint>>, marker: BlockHash, height: u32) -> Self {
        Self { locator: locator.into(), marker, height }
    }
}

impl ForkPoint {
    /// A block that is common, whatever follows it.
    #[must_use]
    pub const fn new(hash: BlockHash) -> Self {
        Self { hash, next: None }
    }

    /// A block that is common, and the one that follows it on the right chain.
    #[must_use]
    pub const fn followed_by(hash: BlockHash, next: BlockHash) -> Self {
        Self { hash, next: Some(next) }
    }
}

impl Network {
    /// Its name as the node and the command line have it.
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            Self::Main => "main",
            Self::Test => "test",
            Self::Scaling => "stn",
            Self::Regtest => "regtest",
            Self::Custom(custom) => &custom.name,
        }
    }

    /// The four bytes every frame starts with, in wire order.
    #[must_use]
    pub fn magic(&self) -> [u8; 4] {
        match self {
            Self::Main => [0xe3, 0xe1, 0xf3, 0xe8],
            Self::Test => [0xf4, 0xe5, 0xf3, 0xf4],
            Self::Scaling => [0xfb, 0xce, 0xc4, 0xf9],
            Self::Regtest => [0xda, 0xb5, 0xbf, 0xfa],
            Self::Custom(custom) => custom.magic,
        }
    }

    /// The port of a peer named without one.
    #[must_use]
    pub fn port(&self) -> u16 {
        match self {
            Self::Main => 8333,
            Self::Test => 18333,
            Self::Scaling => 9333,
            Self::Regtest => 18444,
            Self::Custom(custom) => custom.port,
        }
    }

    /// Host names that resolve to peers; none for regtest.
    #[must_use]
    pub fn seeds(&self) -> Vec<&str> {
        match self {
            Self::Main => vec!["seed.bitcoinsv.io", "seed.satoshisvision.network", "seed.bitcoinseed.directory"],
            Self::Test => vec![
                "testnet-seed.bitcoinsv.io",
                "testnet-seed.bitcoincloud.net",
                "testnet-seed.bitcoinseed.directory",
            ],
            Self::Scaling => vec!["stn-seed.bitcoinsv.io", "stn-seed.bitcoinseed.directory"],
            Self::Regtest => vec![],
            Self::Custom(custom) => custom.seeds.iter().map(String::as_str).collect(),
        }
    }

    /// The hash of the first block. Test and scaling test network share theirs.
    #[must_use]
    pub fn genesis(&self) -> BlockHash {
        match self {
            Self::Main => MAIN_GENESIS,
            Self::Test | Self::Scaling => TEST_GENESIS,
            Self::Regtest => REGTEST_GENESIS,
            Self::Custom(custom) => custom.genesis,
        }
    }

    /// What tells its chain from others; none for regtest. Ends with the genesis block.
    ///
    /// All that ever was called the scaling test network has the same block 1, so its resets pass. A reset that changes
    /// this, or another choice of marker, is a [`Custom`](Self::Custom) network.
    #[must_use]
    pub fn fork_marker(&self) -> Option<ForkMarker> {
        let mut marker = match self {
            Self::Main => ForkMarker::new(
                [ForkPoint::followed_by(MAIN_C2, MAIN_M2), ForkPoint::followed_by(MAIN_C1, MAIN_M1)],
                MAIN_M2,
                556_767,
            ),
            Self::Test => ForkMarker::new(
                [
                    ForkPoint::followed_by(TEST_B, TEST_M2),
                    // Where the chains parted, some time after it, is not known.
                    ForkPoint::new(TEST_1188697),
                    ForkPoint::followed_by(TEST_C1, TEST_M1),
                ],
                TEST_M2,
                1_377_549,
            ),
            Self::Scaling => ForkMarker::new([ForkPoint::followed_by(TEST_GENESIS, SCALING_1)], SCALING_1, 1),
            Self::Regtest => return None,
            Self::Custom(custom) => custom.fork_marker.clone()?,
        };
        let genesis = self.genesis();
        if marker.locator.iter().all(|point| point.hash != genesis) {
            marker.locator.push(ForkPoint::new(genesis));
        }
        Some(marker)
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// Reads `main`, `test`, `stn` (or `scaling`) and `regtest`, also with `net` behind.
/// Writes the name of a network that the node knows, and all of a custom one.
#[cfg(feature = "serde")]
impl serde::Serialize for Network {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Custom(custom) => custom.serialize(serializer),
            known => serializer.serialize_str(known.name()),
        }
    }
}

#[cfg(feature = "serde")]
impl<'de> serde::Deserialize<'de> for Network {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(serde::Deserialize)]
        #[serde(untagged)]
        enum Written {
            Name(String),
            Custom(CustomNetwork),
        }
        match serde::Deserialize::deserialize(deserializer)? {
            Written::Name(name) => name.parse().map_err(serde::de::Error::custom),
            Written::Custom(custom) => Ok(Self::Custom(Arc::new(custom))),
        }
    }
}

impl FromStr for Network {
    type Err = UnknownNetwork;

    fn from_str(name: &str) -> Result<Self, UnknownNetwork> {
        match name {
            "main" | "mainnet" => Ok(Self::Main),
            "test" | "testnet" => Ok(Self::Test),
            "stn" | "scaling" => Ok(Self::Scaling),
            "regtest" => Ok(Self::Regtest),
            _ => Err(UnknownNetwork { name: name.to_owned() }),
        }
    }
}

/// A network's name that is none of `main`, `test`, `stn`, `regtest`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnknownNetwork {
    /// The name given.
    pub name: String,
}

impl fmt::Display for UnknownNetwork {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "no network {:?}: expected main, test, stn or regtest", self.name)
    }
}

impl std::error::Error for UnknownNetwork {}

const MAIN_GENESIS: BlockHash =
    BlockHash::from_display("000000000019d6689c085ae165831e934ff763ae46a2a6c172b3f1b60a8ce26f");
const TEST_GENESIS: BlockHash =
    BlockHash::from_display("000000000933ea01ad0ee984209779baaec3ced90fa3f408719526f8d77f4943");
const REGTEST_GENESIS: BlockHash =
    BlockHash::from_display("0f9188f13cb7b2c71f2a335e3a4fc328bf5beb436012afca590b1a11466e2206");

// The last block that BTC shares, the first that BTC does not have, the last that BCH and XEC share, the first of our own.
const MAIN_C1: BlockHash =
    BlockHash::from_display("0000000000000000011865af4122fe3b144e2cbeea86142e8ff2fb4107352d43");
const MAIN_M1: BlockHash =
    BlockHash::from_display("000000000000000000651ef99cb9fcbe0dadde1d424bd9f15ff20136191a5eec");
const MAIN_C2: BlockHash =
    BlockHash::from_display("00000000000000000102d94fde9bd0807a2cc7582fe85dd6349b73ce4e8d9322");
const MAIN_M2: BlockHash =
    BlockHash::from_display("000000000000000001d956714215d96ffc00e0afda4cd0a96c96f8d802b1662b");

// The same on the test network, where only some block after the second parting is known, with its parent.
const TEST_C1: BlockHash =
    BlockHash::from_display("00000000f17c850672894b9a75b63a1e72830bbd5f4c8889b5c1a80e7faef138");
const TEST_M1: BlockHash =
    BlockHash::from_display("00000000000e38fef93ed9582a7df43815d5c2ba9fd37ef70c9a0ea4a285b8f5");
const TEST_1188697: BlockHash =
    BlockHash::from_display("0000000000170ed0918077bde7b4d36cc4c91be69fa09211f748240dabe047fb");
const TEST_B: BlockHash =
    BlockHash::from_display("0000000000000067e717332d618d4fdf2bb13d66c3d2e3f2af73dc7a490beab9");
const TEST_M2: BlockHash =
    BlockHash::from_display("000000000000029a1abf08fd0d70acdf7a4c442427ca7825ff1f0e55d498d4d0");

const SCALING_1: BlockHash =
    BlockHash::from_display("00000000e23f9436cc8a6d6aaaa515a7b84e7a1720fc9f92805c0007c77420c4");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_read_back_and_every_genesis_is_a_hash() {
        for network in [Network::Main, Network::Test, Network::Scaling, Network::Regtest] {
            assert_eq!(network.name().parse(), Ok(network.clone()));
            assert_ne!(network.genesis(), BlockHash::ZERO);
        }
        assert!("bitcoin".parse::<Network>().is_err());
    }

    #[test]
    fn every_marker_ends_with_the_genesis_block_and_follows_its_first_point() {
        for network in [Network::Main, Network::Test, Network::Scaling] {
            let marker = network.fork_marker().unwrap();
            assert_eq!(marker.locator[0].next, Some(marker.marker), "{network}");
            assert_eq!(marker.locator.last().map(|point| point.hash), Some(network.genesis()), "{network}");
        }
        assert_eq!(Network::Regtest.fork_marker(), None);
    }

    #[test]
    fn custom_marker_gets_the_genesis_block_once() {
        let custom = |fork_marker| {
            let custom = CustomNetwork {
                name: "hamlet".to_owned(),
                magic: [1, 2, 3, 4],
                port: 1,
                seeds: Vec::new(),
                genesis: MAIN_GENESIS,
                fork_marker,
            };
            Network::Custom(Arc::new(custom)).fork_marker()
        };
        assert_eq!(custom(None), None);
        let bare = custom(Some(ForkMarker::new([], MAIN_M1, 1))).unwrap();
        assert_eq!(bare.locator, [ForkPoint::new(MAIN_GENESIS)]);
        let whole = ForkMarker::new([ForkPoint::followed_by(MAIN_GENESIS, MAIN_M1)], MAIN_M1, 1);
        assert_eq!(custom(Some(whole.clone())), Some(whole));
    }
}
