//! The real binary, in front of real and faked apps.
// A test that unwraps fails where it should; its clock is the one on the wall.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, unreachable_pub)]

mod acceptance;
mod activation;
mod admin;
mod aliases;
mod arithmetic;
mod attack;
mod audit;
mod bad_input;
mod command_line;
mod cookies;
mod counts;
mod crowds;
mod cuts;
mod denial;
mod docs;
mod doors;
mod downstream;
mod drain;
mod failover;
mod faults;
mod fleet;
mod framing;
mod harness;
mod health;
mod http;
mod in_band;
mod keepalive;
mod logout;
mod metrics;
mod modes;
mod monitoring;
mod operator;
mod outage;
mod page;
mod redis;
mod reload;
mod replay;
mod replicas;
mod restart;
mod session;
mod store_settings;
mod streams;
mod tokens;
mod tunnel;
