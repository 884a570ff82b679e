//! The operator's tool: status, takeover, queue, ledger, demo.
