//! May this region's groups be open? Read from the local store only.

use topology::MemberName;
use topology::region::Token;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Upstream {
    pub host: String,
    pub port: u16,
    pub slot: String,
    pub member: MemberName,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ownership {
    NoRegions,
    Owner { epoch: u64, token: Option<Token>, opening: bool },
    Standby { epoch: u64, upstream: Option<Upstream> },
    Doubtful(String),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Order {
    StopAndSign { id: String },
}
