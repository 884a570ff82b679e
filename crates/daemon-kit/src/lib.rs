//! What every daemon needs of the operating system: clock, signals, logs, child processes.
