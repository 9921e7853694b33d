//! What each message says, in the words of the vectors.

use conduit::message::{
    BlockHeader, DoubleSpendFork, EnrichedHeader, GetBlocks, GetHdrsEn, GetHeaders, Inventory, MerkleProof,
    Message, NetworkAddress, ProofNode, ProofSubject, ProofTarget, ProvenTransaction, Text, Transaction,
};
use serde_json::{Value, json};

use super::{display, hex};

/// A message's fields, read through the public API, in the words of the vectors.
pub(crate) fn fields_of(message: &Message) -> Value {
    match message {
        Message::Verack | Message::GetAddr | Message::SendHeaders | Message::SendHdrsEn | Message::FilterClear => {
            json!({})
        }
        Message::Version(version) => json!({
            "version": version.version,
            "services": version.services.0,
            "timestamp": version.timestamp,
            "addr_recv": address_fields(&version.receiver),
            "addr_from": address_fields(&version.sender),
            "nonce": version.nonce,
            "user_agent": version.user_agent.as_str(),
            "start_height": version.start_height,
            "relay": version.relay,
            "association_id": version.association_id.as_ref().map(hex),
        }),
        Message::Ping { nonce } | Message::Pong { nonce } => json!({ "nonce": nonce }),
        Message::ProtoConf(protoconf) => json!({
            "number_of_fields": if protoconf.stream_policies.is_some() { 2 } else { 1 },
            "max_recv_payload_length": protoconf.max_recv_payload_length,
            "stream_policies": protoconf.stream_policies.as_ref().map(Text::as_str),
        }),
        Message::Inv(items) | Message::GetData(items) | Message::NotFound(items) => {
            let item = |item: &Inventory| json!({ "type": u32::from(item.kind), "hash": display(item.hash) });
            json!({ "items": items.iter().map(item).collect::<Vec<_>>() })
        }
        Message::Tx(transaction) => transaction_fields(transaction),
        Message::Block(block) => {
            let transactions: Vec<_> =
                block.transactions().map(|view| transaction_fields(&view.to_transaction())).collect();
            json!({ "header": header_fields(block.header()), "transactions": transactions })
        }
        Message::GetHeaders(GetHeaders { version, locator, stop })
        | Message::GetHdrsEn(GetHdrsEn { version, locator, stop })
        | Message::GetBlocks(GetBlocks { version, locator, stop }) => json!({
            "version": version,
            "locator": locator.iter().map(ToString::to_string).collect::<Vec<_>>(),
            "hash_stop": stop.to_string(),
        }),
        Message::Headers(headers) => {
            let header = |header: &BlockHeader| {
                let mut fields = header_fields(header);
                fields["tx_count"] = 0.into();
                fields
            };
            json!({ "headers": headers.iter().map(header).collect::<Vec<_>>() })
        }
        Message::Addr(addresses) => {
            let address = |item: &conduit::message::TimestampedAddress| {
                let mut fields = address_fields(&item.address);
                fields["time"] = item.time.into();
                fields
            };
            json!({ "addresses": addresses.iter().map(address).collect::<Vec<_>>() })
        }
        Message::Reject(reject) => json!({
            "message": reject.message.as_str(),
            "code": u8::from(reject.code),
            "reason": reject.reason.as_str(),
            "hash": reject.hash.map(display),
        }),
        Message::FeeFilter { satoshis_per_kilobyte } => json!({ "fee_rate_sat_per_kb": satoshis_per_kilobyte }),
        Message::SendCmpct(sendcmpct) => json!({ "announce": sendcmpct.announce, "version": sendcmpct.version }),
        Message::AuthCh(authch) => json!({
            "version": authch.version,
            "length": authch.challenge.len(),
            "challenge": hex(&authch.challenge),
        }),
        Message::HdrsEn(items) => {
            let item = |item: &EnrichedHeader| {
                json!({
                    "header": header_fields(&item.header),
                    "tx_count": item.transaction_count,
                    "no_more_headers": item.no_more_headers,
                    "coinbase": item.coinbase.as_deref().map(proven_fields),
                    "miner_info": item.miner_info.as_deref().map(proven_fields),
                })
            };
            json!({ "headers": items.iter().map(item).collect::<Vec<_>>() })
        }
        Message::Mempool { age_seconds } => json!({ "age": age_seconds }),
        Message::FilterLoad(filter) => json!({
            "filter": hex(&filter.filter),
            "hash_funcs": filter.hash_functions,
            "tweak": filter.tweak,
            "flags": filter.flags,
        }),
        Message::FilterAdd(element) => json!({ "data": hex(&element.data) }),
        Message::MerkleBlock(block) => {
            let matches = block.matches().unwrap();
            json!({
                "header": header_fields(&block.header),
                "total_transactions": block.tree.total_transactions,
                "hashes": block.tree.hashes.iter().copied().map(display).collect::<Vec<_>>(),
                "flags": hex(&block.tree.flags),
                "matched_txids": matches.iter().map(|(_, txid)| txid.to_string()).collect::<Vec<_>>(),
                "matched_indexes": matches.iter().map(|(index, _)| index).collect::<Vec<_>>(),
            })
        }
        Message::CmpctBlock(block) => {
            let mut next = 0;
            let prefilled = block.prefilled().map(|(index, transaction)| {
                let delta = index - next;
                next = index + 1;
                let transaction = transaction_fields(&transaction.to_transaction());
                json!({ "index_delta": delta, "index": index, "tx": transaction })
            });
            let prefilled: Vec<_> = prefilled.collect();
            let (k0, k1) = block.short_id_key().words();
            json!({
                "header": header_fields(block.header()),
                "nonce": block.nonce(),
                "siphash_k0": format!("{k0:016x}"),
                "siphash_k1": format!("{k1:016x}"),
                "short_ids": block.short_ids().iter().map(ToString::to_string).collect::<Vec<_>>(),
                "prefilled": prefilled,
            })
        }
        Message::GetBlockTxn(request) => {
            let mut payload = Vec::new();
            message.encode_payload(&mut payload);
            json!({
                "block_hash": request.block_hash.to_string(),
                // All below 253 in the vectors, so a byte each.
                "encoded_indexes": payload[33..],
                "absolute_indexes": request.indexes(),
            })
        }
        Message::BlockTxn(answer) => {
            let transactions = answer.transactions().map(|view| transaction_fields(&view.to_transaction()));
            json!({
                "block_hash": answer.block_hash().to_string(),
                "transactions": transactions.collect::<Vec<_>>(),
            })
        }
        Message::DataRefTx(proven) => proven_fields(proven),
        Message::CreateStrm(request) => json!({
            "association_id": hex(&request.association_id),
            "stream_type": u8::from(request.stream_type),
            "stream_policy": request.stream_policy.as_str(),
        }),
        Message::StreamAck(answer) => json!({
            "association_id": hex(&answer.association_id),
            "stream_type": u8::from(answer.stream_type),
        }),
        Message::DsDetected(notice) => {
            let fork = |fork: &DoubleSpendFork| {
                json!({
                    "headers": fork.headers.iter().map(header_fields).collect::<Vec<_>>(),
                    "proof": proof_fields(&fork.proof),
                })
            };
            json!({ "version": notice.version, "forks": notice.forks.iter().map(fork).collect::<Vec<_>>() })
        }
        Message::RevokeMid(revocation) => {
            let (first, second) =
                (revocation.revocation_signature.as_bytes(), revocation.miner_id_signature.as_bytes());
            let both = [&[first.len() as u8][..], first, &[second.len() as u8], second].concat();
            json!({
                "version": revocation.version,
                "revocation_key": hex(revocation.revocation_key),
                "miner_id": hex(revocation.miner_id),
                "revocation_message": hex(revocation.revocation_message),
                "revocation_message_sig": hex(both),
                "sig1": hex(first),
                "sig2": hex(second),
            })
        }
        Message::AuthResp(answer) => json!({
            "public_key": hex(&answer.public_key),
            "client_nonce": answer.client_nonce,
            "signature": hex(&answer.signature),
        }),
        Message::Alert(alert) => {
            json!({ "payload": hex(&alert.payload), "signature": hex(&alert.signature) })
        }
        other => panic!("{} has a type but no fields here", other.command()),
    }
}

fn address_fields(address: &NetworkAddress) -> Value {
    json!({ "services": address.services.0, "ip": address.ip.to_string(), "port": address.port })
}

fn header_fields(header: &BlockHeader) -> Value {
    json!({
        "hash": header.hash().to_string(),
        "version": header.version,
        "prev_block": header.previous.to_string(),
        "merkle_root": header.merkle_root.to_string(),
        "time": header.time,
        "bits": header.bits,
        "nonce": header.nonce,
    })
}

fn transaction_fields(transaction: &Transaction) -> Value {
    let inputs = transaction.inputs().map(|input| {
        json!({
            "prev_txid": input.previous_output.txid.to_string(),
            "prev_index": input.previous_output.index,
            "script_sig": hex(input.script_sig),
            "sequence": input.sequence,
        })
    });
    let outputs = transaction
        .outputs()
        .map(|output| json!({ "value": output.value, "script_pubkey": hex(output.script_pubkey) }));
    json!({
        "txid": transaction.txid().to_string(),
        "version": transaction.version(),
        "inputs": inputs.collect::<Vec<_>>(),
        "outputs": outputs.collect::<Vec<_>>(),
        "lock_time": transaction.lock_time(),
    })
}

fn proven_fields(proven: &ProvenTransaction) -> Value {
    json!({ "tx": transaction_fields(&proven.transaction), "proof": proof_fields(&proven.proof) })
}

fn proof_fields(proof: &MerkleProof) -> Value {
    let node = |node: &ProofNode| match node {
        ProofNode::Hash(hash) => json!({ "type": 0, "value": display(*hash) }),
        ProofNode::Duplicate => json!({ "type": 0, "value": "00".repeat(32) }),
    };
    let mut fields = json!({
        "flags": proof.to_bytes()[0],
        "index": proof.index,
        "nodes": proof.nodes.iter().map(node).collect::<Vec<_>>(),
    });
    match &proof.subject {
        ProofSubject::Txid(txid) => fields["txid"] = txid.to_string().into(),
        ProofSubject::Transaction(transaction) => {
            fields["tx_length"] = transaction.raw().len().into();
            fields["tx"] = transaction_fields(transaction);
        }
    }
    fields["target"] = match &proof.target {
        ProofTarget::BlockHash(hash) => hash.to_string(),
        ProofTarget::MerkleRoot(root) => root.to_string(),
        ProofTarget::Header(_) => panic!("no message carries a header as target"),
    }
    .into();
    fields
}
