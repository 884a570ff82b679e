//! Keys of what tells of the programs.

use super::row::Unset::{Required, Value as Is, Words};
use super::row::{Key, key};

pub(super) const KEYS: &[Key] = &[
    key(
        "health.address",
        "address:port",
        Words("not served"),
        "Where `/health/live`, `/health/ready`, `/health/takeover` and `/metrics` are answered (HTTP).",
    ),
    key(
        "agent.address",
        "address:port",
        Words("not served"),
        "Where HAProxy's agent-check is answered by heartbeatd.",
    ),
    key(
        "monitor.address",
        "address:port",
        Words("not served"),
        "Where heartbeatd answers `/health/live`, `/health/takeover` and `/metrics` (HTTP), with the metrics of the secondaries it runs.",
    ),
    key(
        "log.format",
        "`auto`, `logfmt`, `json` or `journald`",
        Is("auto"),
        "How the log looks. `logfmt` and `json` are lines on standard error; `journald` gives journald the fields of each event as fields of its own. `auto`: `journald` where standard error leads to the journal, else `logfmt`.",
    ),
    key(
        "log.level",
        "`error`, `warn`, `info`, `debug` or `trace`",
        Is("info"),
        "What is logged. `switchctl log set` changes it for a part of a running program.",
    ),
    key(
        "alerts.after",
        "duration",
        Is("10s"),
        "What is wrong must last so long before anybody is told, and be over for so long before that is told. A takeover is told at once. 0s to 1h.",
    ),
    key("alerts.repeat", "duration", Is("4h"), "What stays wrong is told again after so long. 1m to 30d."),
    key(
        "alerts.webhook.url",
        "URL",
        Required,
        "Where heartbeatd posts alerts as JSON: `https://…` or `http://…`. It is tried again when it fails.",
    ),
    key(
        "alerts.webhook.secret_file",
        "path",
        Words("not signed"),
        "A file with a secret: each post is signed with it, HMAC-SHA256 of `TIMESTAMP.BODY` in `X-Mailswitch-Signature`.",
    ),
    key("alerts.mail.to[]", "mail address", Required, "Who gets alerts by mail."),
    key("alerts.mail.from", "mail address", Words("mailswitch at `node.hostname`"), "Who they are from."),
    key(
        "alerts.mail.through[]",
        "address:port",
        Words("this node's first listener"),
        "SMTP listeners that take them from this node, tried in this order: the own, then those of the other nodes.",
    ),
    key(
        "alerts.command[]",
        "words",
        Words("none"),
        "A program and its arguments, run for each alert: the JSON on its standard input, `MAILSWITCH_ALERT_STATUS` and `MAILSWITCH_ALERT_NAME` in its environment.",
    ),
];
