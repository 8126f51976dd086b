//! Names and numbers that identify things.

use std::fmt;
use std::str::FromStr;

macro_rules! name_type {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(
            Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize,
            serde::Deserialize,
        )]
        #[serde(transparent)]
        pub struct $name(pub String);

        impl $name {
            pub fn new(text: impl Into<String>) -> $name {
                $name(text.into())
            }
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }

        impl From<&str> for $name {
            fn from(text: &str) -> $name {
                $name(text.to_string())
            }
        }
    };
}

name_type!(
    /// The name of a member, unique in its group.
    MemberName
);
name_type!(
    /// The name of a region, unique in its formation.
    RegionName
);

/// The group of a member: none for a plain cluster, a number with Citus.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Group(pub Option<u32>);

impl Group {
    pub const PLAIN: Group = Group(None);
    pub const COORDINATOR: Group = Group(Some(0));

    pub fn is_coordinator(self) -> bool {
        self == Group::COORDINATOR
    }

    pub fn is_worker(self) -> bool {
        self.0.is_some_and(|number| number > 0)
    }

    /// A word that is the same in every store key: the number, or `default`.
    pub fn key(self) -> String {
        self.to_string()
    }
}

impl fmt::Display for Group {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(number) => write!(f, "{number}"),
            None => f.write_str("default"),
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a group: a number without leading zeros, or `default`")]
pub struct BadGroup(String);

impl FromStr for Group {
    type Err = BadGroup;
    fn from_str(text: &str) -> Result<Group, BadGroup> {
        if text == "default" {
            return Ok(Group::PLAIN);
        }
        let number: u32 = text.parse().map_err(|_| BadGroup(text.to_string()))?;
        if number.to_string() == text {
            Ok(Group(Some(number)))
        } else {
            Err(BadGroup(text.to_string()))
        }
    }
}

impl serde::Serialize for Group {
    fn serialize<S: serde::Serializer>(&self, out: S) -> Result<S::Ok, S::Error> {
        out.serialize_str(&self.key())
    }
}

impl<'de> serde::Deserialize<'de> for Group {
    fn deserialize<D: serde::Deserializer<'de>>(input: D) -> Result<Group, D::Error> {
        let text = <String as serde::Deserialize>::deserialize(input)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// PostgreSQL's system identifier: the same in every copy of one database.
#[derive(
    Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize,
)]
#[serde(transparent)]
pub struct SystemId(pub String);

impl SystemId {
    /// A value of `/initialize` that is a system id; empty means "bootstrap runs".
    pub fn parse(text: &str) -> Option<SystemId> {
        let valid = text.len() >= 10 && text.bytes().all(|b| b.is_ascii_digit());
        valid.then(|| SystemId(text.to_string()))
    }
}

impl fmt::Display for SystemId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// PostgreSQL truncates every name to this number of bytes.
pub const NAME_BYTES_MAX: usize = 63;

/// The name of the replication slot that belongs to a member.
///
/// Lower case; `-` and `.` become `_`; anything else outside `[a-z0-9_]`
/// becomes `u` and its code point; cut to 63 characters, as PostgreSQL would.
pub fn slot_name(member: &str) -> String {
    let mut slot = String::new();
    for c in member.to_lowercase().chars() {
        match c {
            'a'..='z' | '0'..='9' | '_' => slot.push(c),
            '-' | '.' => slot.push('_'),
            other => slot.push_str(&format!("u{:04}", u32::from(other))),
        }
    }
    slot.chars().take(NAME_BYTES_MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slot_names_are_normalised() {
        assert_eq!(slot_name("Node-1.b"), "node_1_b");
        assert_eq!(slot_name("a b"), "au0032b");
        assert_eq!(slot_name(&"x".repeat(80)).len(), 63);
    }

    #[test]
    fn groups_read_only_canonical_numbers() {
        assert_eq!("0".parse::<Group>().unwrap(), Group::COORDINATOR);
        assert_eq!("default".parse::<Group>().unwrap(), Group::PLAIN);
        assert!("01".parse::<Group>().is_err());
        assert!("-1".parse::<Group>().is_err());
    }

    #[test]
    fn a_system_id_has_ten_digits_or_more() {
        assert!(SystemId::parse("7710375988543033523").is_some());
        assert!(SystemId::parse("").is_none());
        assert!(SystemId::parse("771").is_none());
    }
}
