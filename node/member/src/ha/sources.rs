//! Which server this member streams from, copies, or is compared with.
//!
//! Invariant: no member is copied or compared with while no leader runs: it is not
//! known what that member has.

use super::facts::Facts;
use super::facts::attach::differs;
use super::observation::Following;
use standby::source;
use standby::switch::ownership::Ownership;
use topology::id::slot_name;
use topology::{GroupView, MemberName};

impl Facts<'_> {
    /// The remote side that a standby group streams from.
    pub fn remote(&self) -> Option<Following> {
        match &self.o.ownership {
            Ownership::Standby { upstream: Some(u), .. } => Some(Following {
                host: u.host.clone(),
                port: u.port,
                slot: Some(u.slot.clone()),
                database: None,
                member: u.member.clone(),
            }),
            Ownership::NoRegions => self.standby_cluster(),
            _ => None,
        }
    }

    /// `None` too when a standby cluster has only an archive.
    fn standby_cluster(&self) -> Option<Following> {
        let section = self.o.dynamic.standby_cluster.as_ref()?;
        let (host, port) = (section.host.clone()?, section.port);
        // Each of several hosts may bring its own port.
        let brings_ports = host.contains(',') && host.contains(':');
        let member = if brings_ports { host.clone() } else { format!("{host}:{port}") };
        let member = MemberName::new(member);
        let slot = section.primary_slot_name.as_deref().map(slot_name);
        let slot = slot.filter(|_| self.o.dynamic.use_slots);
        Some(Following { host, port, slot, database: None, member })
    }

    /// Where this member should stream from now; `None` too while its log must be compared
    /// first.
    pub fn upstream(&self) -> Option<Following> {
        self.wanted_upstream().filter(|wanted| !self.must_fit_first(wanted))
    }

    /// Where this member should stream from once that is safe.
    pub fn wanted_upstream(&self) -> Option<Following> {
        if self.o.holds_lock() {
            return if self.may_own() { None } else { self.remote() };
        }
        if self.o.me.tags.nostream() {
            return None;
        }
        let no_member_leads = self.is_lock_free() && !self.is_paused();
        if no_member_leads && self.o.dynamic.standby_cluster.is_some() {
            return self.remote().filter(|_| self.o.ownership == Ownership::NoRegions);
        }
        let view = self.view()?;
        let name = match self.is_on_detour() {
            true => view.leader_name()?,
            false => source::upstream(&self.o.me.name, &self.o.me.tags, view)?,
        };
        self.following(view, name)
    }

    fn following(&self, view: &GroupView, name: &MemberName) -> Option<Following> {
        let record = view.member(name)?;
        let (host, port) = record.address()?;
        let slot = self.o.dynamic.use_slots.then(|| slot_name(self.o.me.name.as_str()));
        Some(Following { host, port, slot, database: record.database(), member: name.clone() })
    }

    /// The leader as a source to clone, rewind or compare with.
    pub fn leader_source(&self) -> Option<Following> {
        if self.o.holds_lock() {
            return self.remote();
        }
        let view = self.view()?;
        let leader = view.leader_record().filter(|r| r.is_running())?;
        let leads = ["primary", "standby_leader"].contains(&leader.role.text());
        if leads { self.following(view, view.leader_name()?) } else { None }
    }

    /// Whose logical slots are copied: before PostgreSQL 17 each member of a standby region asks
    /// the remote leader.
    pub fn slots_source(&self) -> Option<Following> {
        match self.o.ownership {
            Ownership::Standby { .. } => self.remote(),
            _ => self.leader_source(),
        }
    }

    /// The server to copy: a member that serves clones, else the leader. No member is
    /// copied while no leader runs: it is not known what that member has.
    pub fn clone_source(&self) -> Option<Following> {
        let leader = self.leader_source()?;
        if self.o.holds_lock() {
            return Some(leader);
        }
        let failures = self.o.memory.failed.as_ref().map_or(0, |failed| failed.times);
        let view = self.view()?;
        let helper = source::serves_clones(&self.o.me.name, view, failures);
        helper.and_then(|name| self.following(view, name)).or(Some(leader))
    }

    /// There is no server to stream from, and that is certain: by the tag `nostream`,
    /// or as the leader of a standby cluster that has nothing but an archive.
    fn lives_on_archive(&self) -> bool {
        if self.o.holds_lock() { self.has_only_archive() } else { self.o.me.tags.nostream() }
    }

    /// Streams from another server than it should (or from none). The server to follow
    /// may be unknown for a while: that ends no stream.
    pub fn must_follow_another(&self) -> bool {
        let Some(wanted) = self.upstream() else {
            return self.lives_on_archive() && self.o.follows().is_some();
        };
        self.o.follows().is_none_or(|now| differs(now, &wanted))
    }
}
