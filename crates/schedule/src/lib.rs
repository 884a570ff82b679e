//! When which message is tried at which destination: back-off, due times, concurrency windows, fairness. Touches no world.
