//! scratch
#![allow(dead_code)]
#[cfg(test)]
mod fixture;
mod members;
mod output;
mod table;
mod tree;
mod yaml;
fn main() {}
