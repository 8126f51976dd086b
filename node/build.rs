//! How the daemon's program is linked.
//!
//! A daemon's memory is mostly its program, and a table of 400 kB in it is read once, at
//! the start, to relocate pointers. The packed form of that table (RELR) takes 10 kB; the
//! C library reads it since glibc 2.36. Where the program is built for another library,
//! the table stays as it is.

use std::env::var;
use std::process::Command;

/// The first glibc that reads packed relocations.
const READS_PACKED: (u32, u32) = (2, 36);

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    let is_native = var("HOST") == var("TARGET");
    let is_gnu = var("CARGO_CFG_TARGET_ENV").as_deref() == Ok("gnu");
    if is_native && is_gnu && glibc().is_some_and(|version| version >= READS_PACKED) {
        println!("cargo:rustc-link-arg-bins=-Wl,-z,pack-relative-relocs");
    }
}

/// As `getconf` says it: `glibc 2.36`.
fn glibc() -> Option<(u32, u32)> {
    let output = Command::new("getconf").arg("GNU_LIBC_VERSION").output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    let (major, minor) = text.trim().strip_prefix("glibc ")?.split_once('.')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}
