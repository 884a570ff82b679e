//! Real faults on real nodes and real storage. Minutes each, so `make drills` runs them and `make test` does not. Each closes the
//! books of client, far end and queues, and gives a row to the table that the command prints.

mod live;
mod nodes;
mod power;
mod rounds;
mod row;
