//! JSON-RPC of an SV Node over one connection that is kept open, with nothing around it that takes time: what
//! `sendrawtransaction` at its best is worth beside a broadcast.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;

use serde_json::{Value, json};

use super::PATIENCE;
use super::hex;
use super::sv_node::{RpcError, SvNode};

/// One kept-alive connection to a node's RPC server; one call at a time.
pub(crate) struct RpcLine {
    stream: BufReader<TcpStream>,
    /// The part of every request that does not change.
    head: String,
}

impl RpcLine {
    pub(crate) fn connect(node: &SvNode) -> Self {
        let stream = TcpStream::connect(node.rpc_address()).expect("the node listens");
        stream.set_nodelay(true).expect("a connected socket");
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout that is not zero");
        let login = base64(format!("u:{}", node.password()).as_bytes());
        let head =
            format!("POST / HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Basic {login}\r\nContent-Length: ");
        Self { stream: BufReader::new(stream), head }
    }

    /// Hands the node a transaction and returns its id, or the reason why it is refused.
    pub(crate) fn send_raw_transaction(&mut self, raw: &[u8]) -> Result<String, RpcError> {
        let mut reply =
            self.call(&json!({ "id": 0, "method": "sendrawtransaction", "params": [hex::encode(raw)] }));
        match reply["error"].take() {
            Value::Null => Ok(reply["result"].as_str().expect("a transaction id").to_owned()),
            error => Err(RpcError {
                code: error["code"].as_i64(),
                message: error["message"].as_str().unwrap_or_default().to_owned(),
            }),
        }
    }

    fn call(&mut self, request: &Value) -> Value {
        let body = request.to_string();
        let request = format!("{}{}\r\n\r\n{body}", self.head, body.len());
        self.stream.get_mut().write_all(request.as_bytes()).expect("the node reads");
        let mut length = None;
        let mut line = String::new();
        loop {
            line.clear();
            assert_ne!(self.stream.read_line(&mut line).expect("an answer"), 0, "the node closed the connection");
            let Some((name, value)) = line.trim_end().split_once(": ") else {
                if line.trim_end().is_empty() {
                    break;
                }
                continue;
            };
            if name.eq_ignore_ascii_case("content-length") {
                length = value.parse().ok();
            }
        }
        let mut body = vec![0; length.expect("the node tells the length")];
        self.stream.read_exact(&mut body).expect("all of the answer");
        serde_json::from_slice(&body).expect("an answer in JSON")
    }
}

fn base64(bytes: &[u8]) -> String {
    let mut text = String::new();
    for group in bytes.chunks(3) {
        let bits =
            group.iter().enumerate().fold(0, |bits, (place, byte)| bits | u32::from(*byte) << (16 - 8 * place));
        for place in 0..4 {
            let digit = (bits >> (18 - 6 * place)) as usize & 0x3f;
            text.push(if place <= group.len() { char::from(ALPHABET[digit]) } else { '=' });
        }
    }
    text
}

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
