//! The values of the options that have a grammar of their own.

use std::fmt::Display;
use std::str::FromStr;
use std::time::Duration;

use conduit::Command;
use conduit::message::RejectCode;
use conduit::testnode::{BlockPlan, Fault, FaultKind, Flood};

/// A time with its unit: `20ms`, `1.5s`.
pub(crate) struct Time(pub(crate) Duration);

/// `KIND[=VALUE]` and what it concerns, separated by commas.
pub(crate) struct FaultSpec(pub(crate) Fault);

/// `KIND:COUNT:SIZE`.
pub(crate) struct FloodSpec(pub(crate) Flood);

/// `bytes=N` or `count=N,size=N`, and what else is said of the block, separated by commas.
pub(crate) struct BlockSpec(pub(crate) BlockPlan);

impl FromStr for Time {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (number, unit) = match (text.strip_suffix("ms"), text.strip_suffix('s')) {
            (Some(number), _) => (number, 1e-3),
            (None, Some(number)) => (number, 1.0),
            _ => return Err("a unit is missing, ms or s".into()),
        };
        let seconds = number.parse::<f64>().map_err(|error| error.to_string())? * unit;
        if !(0.0..=LONGEST).contains(&seconds) {
            return Err("expected a time of at most a day".into());
        }
        Ok(Self(Duration::from_secs_f64(seconds)))
    }
}

impl FromStr for FaultSpec {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut kind = None;
        let (mut command, mut connection, mut times) = (None, None, None);
        for part in text.split(',') {
            let (key, value) = part.split_once('=').map_or((part, None), |(key, value)| (key, Some(value)));
            match (key, value) {
                ("command", Some(value)) => {
                    command = Some(Command::new(value).ok_or_else(|| format!("{part}: no command"))?);
                }
                ("connection", Some(value)) => connection = Some(number(part, value)?),
                ("times", Some(value)) => times = Some(number(part, value)?),
                _ => {
                    let read = read_kind(key, value).map_err(|error| format!("{part}: {error}"))?;
                    if kind.replace(read).is_some() {
                        return Err(format!("{part}: one kind of fault at a time"));
                    }
                }
            }
        }
        let mut fault = Fault::new(kind.ok_or("no kind of fault is named")?);
        fault.command = command;
        fault.connection = connection;
        fault.times = times;
        Ok(Self(fault))
    }
}

fn read_kind(key: &str, value: Option<&str>) -> Result<FaultKind, String> {
    Ok(match (key, value) {
        ("delay", Some(value)) => FaultKind::Delay(value.parse::<Time>()?.0),
        ("withhold", None) => FaultKind::Withhold,
        ("corrupt", None) => FaultKind::CorruptChecksum,
        ("close", Some(value)) => FaultKind::CloseAfter(value.parse().map_err(|error| format!("{error}"))?),
        ("stall", Some(value)) => FaultKind::StallAfter(number(key, value)?),
        ("throttle", Some(value)) => FaultKind::Throttle(number(key, value)?),
        ("extend", None) => FaultKind::ExtendHeader,
        ("falsify", Some(value)) => FaultKind::Falsify { at: number(key, value)?, checksum_fits: false },
        ("forge", Some(value)) => FaultKind::Falsify { at: number(key, value)?, checksum_fits: true },
        ("shorten", Some(value)) => FaultKind::Shorten(number(key, value)?),
        ("miscount", Some(value)) => FaultKind::Miscount(number(key, value)?),
        ("busy", None) => FaultKind::TooBusy,
        ("ignore", None) => FaultKind::Ignore,
        ("reject", Some(value)) => {
            let (code, reason) = value.split_once(':').unwrap_or((value, ""));
            let number = match code.strip_prefix("0x") {
                Some(digits) => u8::from_str_radix(digits, 16),
                None => code.parse(),
            };
            let code = RejectCode::from(number.map_err(|error| format!("{error}"))?);
            FaultKind::Reject { code, reason: reason.to_owned() }
        }
        ("silence", None) => FaultKind::Silence,
        ("idle", None) => FaultKind::Idle,
        ("flood", Some(value)) => FaultKind::Flood(value.parse::<FloodSpec>()?.0),
        ("delay" | "close" | "stall" | "throttle" | "falsify" | "forge" | "shorten" | "miscount", None)
        | ("reject" | "flood" | "command" | "connection" | "times", None) => {
            return Err("its value is missing".into());
        }
        _ => return Err("no such fault".into()),
    })
}

impl FromStr for FloodSpec {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let [kind, count, size] = text.split(':').collect::<Vec<_>>()[..] else {
            return Err("expected KIND:COUNT:SIZE, as in tx:1000000:250".into());
        };
        let (count, size) = (number(text, count)?, number(text, size)?);
        let (flood, largest): (fn(u64, usize) -> Flood, usize) = match kind {
            "tx" => (Flood::transactions, MOST_BYTES),
            "inv" => (Flood::inventories, MOST_BYTES / 36),
            "headers" => (Flood::headers, 2_000),
            _ => return Err("expected tx, inv or headers".into()),
        };
        if size > largest {
            return Err(format!("a size of at most {largest}"));
        }
        Ok(Self(flood(count, size)))
    }
}

impl FromStr for BlockSpec {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (mut bytes, mut count, mut size, mut seed, mut giant) = (None, None, None, 0, None);
        let mut has_checksum = true;
        for part in text.split(',') {
            match part.split_once('=') {
                Some(("bytes", value)) => bytes = Some(number(part, value)?),
                Some(("count", value)) => count = Some(number(part, value)?),
                Some(("size", value)) => size = Some(number(part, value)?),
                Some(("seed", value)) => seed = number(part, value)?,
                Some(("giant", value)) => giant = Some(number(part, value)?),
                None if part == "unchecked" => has_checksum = false,
                _ => return Err(format!("{part}: nothing that is known of a block")),
            }
        }
        let mut plan = match (bytes, count, size) {
            (Some(bytes), None, None) => BlockPlan::of_size(seed, bytes),
            (None, Some(count), Some(size)) => BlockPlan::of_count(seed, count, size),
            _ => return Err("expected bytes, or count and size".into()),
        };
        if let Some(giant) = giant {
            plan = plan.giant(giant);
        }
        Ok(Self(if has_checksum { plan } else { plan.without_checksum() }))
    }
}

fn number<T: FromStr<Err: Display>>(part: &str, value: &str) -> Result<T, String> {
    value.parse().map_err(|error| format!("{part}: {error}"))
}

/// A day, in seconds.
const LONGEST: f64 = 86_400.0;
/// In one message of a flood.
const MOST_BYTES: usize = 32 * 1_024 * 1_024;
