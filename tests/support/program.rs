//! The example programs as a user starts them; `cargo test` builds them beside the tests.

use std::io::{BufRead, BufReader, Read, Write};
use std::path::PathBuf;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::PATIENCE;

/// A program of `examples/`; it does not outlive the test.
pub(crate) struct Program {
    pub(crate) child: Child,
    name: String,
    pub(crate) lines: Receiver<String>,
}

impl Program {
    pub(crate) fn start(name: &str, args: &[&str]) -> Self {
        let mut child = Command::new(path(name))
            .args(args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("{name}: {error}; `cargo build --examples` makes it"));
        let lines = read_lines(child.stdout.take().unwrap());
        Self { child, name: name.to_owned(), lines }
    }

    pub(crate) fn line(&self) -> String {
        self.lines.recv_timeout(PATIENCE).unwrap_or_else(|error| panic!("{}: no line: {error}", self.name))
    }

    pub(crate) fn json(&self) -> Value {
        let line = self.line();
        serde_json::from_str(&line).unwrap_or_else(|error| panic!("{line}: {error}"))
    }

    pub(crate) fn write(&mut self, text: &str) {
        self.child.stdin.as_mut().unwrap().write_all(text.as_bytes()).unwrap();
    }

    /// Ends its standard input and waits for its end; gives the exit code, the lines left, and what it complained of.
    pub(crate) fn end(&mut self) -> (Option<i32>, Vec<String>, String) {
        drop(self.child.stdin.take());
        let began = Instant::now();
        let status = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status;
            }
            assert!(began.elapsed() < PATIENCE, "{} goes on", self.name);
            thread::sleep(Duration::from_millis(5));
        };
        let mut complaints = String::new();
        self.child.stderr.take().unwrap().read_to_string(&mut complaints).unwrap();
        (status.code(), self.lines.iter().collect(), complaints)
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // An error says that it has ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What a measure prints, which is one line, as JSON with exactly these fields.
pub(crate) fn measure(args: &[&str], fields: &[&str]) -> Value {
    let mut program = Program::start("measure", args);
    let report = program.json();
    let mut names: Vec<&str> = report.as_object().unwrap().keys().map(String::as_str).collect();
    names.sort_unstable();
    let mut wanted = fields.to_vec();
    wanted.sort_unstable();
    assert_eq!(names, wanted);
    assert_eq!(program.end(), (Some(0), vec![], String::new()));
    report
}

pub(crate) fn number(report: &Value, field: &str) -> f64 {
    report[field].as_f64().unwrap_or_else(|| panic!("{field} of {report}"))
}

/// Runs a program without standard input: its exit code, what it said and what it complained of.
pub(crate) fn run(name: &str, args: &[&str]) -> (Option<i32>, Vec<String>, String) {
    Program::start(name, args).end()
}

/// Runs a program whose output is no text: its exit code, all that it wrote, and what it complained of.
pub(crate) fn run_for_bytes(name: &str, args: &[&str]) -> (Option<i32>, Vec<u8>, String) {
    let output = Command::new(path(name)).args(args).stdin(Stdio::null()).output();
    let output = output.unwrap_or_else(|error| panic!("{name}: {error}; `cargo build --examples` makes it"));
    (output.status.code(), output.stdout, String::from_utf8_lossy(&output.stderr).into_owned())
}

/// Where cargo puts the examples: beside the folder of the tests.
fn path(name: &str) -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let folder = test.parent().unwrap().parent().unwrap().join("examples");
    folder.join(name).with_extension(std::env::consts::EXE_EXTENSION)
}

fn read_lines(out: ChildStdout) -> Receiver<String> {
    let (sender, lines) = mpsc::channel();
    thread::spawn(move || BufReader::new(out).lines().map_while(Result::ok).try_for_each(|line| sender.send(line)));
    lines
}
