//! SMTP without sockets: the strict command parser, the receiving session and the sending transaction as pure machines. Touches no world.
