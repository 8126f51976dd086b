//! As what a server runs.

/// As what the server runs, for the settings that depend on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    Primary,
    Replica,
    StandbyLeader,
}

impl Role {
    /// Ending of `parameters_X`, `pg_hba_X` and `pg_ident_X`.
    pub fn word(self) -> &'static str {
        match self {
            Role::Primary => "primary",
            Role::Replica => "replica",
            Role::StandbyLeader => "standby_leader",
        }
    }
}
