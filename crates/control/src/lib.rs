//! How the programs talk to each other and to operators: requests and answers over a unix socket.
