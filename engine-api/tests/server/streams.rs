//! Attach, exec, logs, stats and archives, by the real command line.
