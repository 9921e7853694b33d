//! The networks: what tells one from another on the wire and where its peers are found.
//!
//! Section 1.3 of the wire specification (the node's `src/chainparams.cpp`).

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
}
