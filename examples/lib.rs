//! Programs a user would copy, in this directory; the README, whose code compiles as a test of this crate.
#![doc = include_str!("../README.md")]
