//! The graph of members, groups and regions.
