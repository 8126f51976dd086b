//! A small `pg_dist_node` that runs statements, for tests and the simulator.
//!
//! It refuses what the real table refuses, and also what the real one accepts
//! but a plan must never ask for: an address that is registered already, the
//! call that crashes the server, the removal of a primary.

use crate::{Address, DEFAULT_CLUSTER, NodeRole, NodeRow, Statement};

/// A synced primary row.
pub fn row(nodeid: i32, groupid: u32, host: &str) -> NodeRow {
    NodeRow {
        nodeid,
        groupid,
        nodename: host.to_string(),
        nodeport: 5432,
        noderole: NodeRole::Primary,
        nodecluster: DEFAULT_CLUSTER.to_string(),
        isactive: true,
        hasmetadata: true,
        metadatasynced: true,
        shouldhaveshards: groupid != 0,
        nodeisclone: false,
        poolinfo: None,
    }
}

#[derive(Clone, Debug)]
pub struct Model {
    pub rows: Vec<NodeRow>,
    saved: Option<Vec<NodeRow>>,
    next_nodeid: i32,
}

impl Model {
    pub fn new(rows: Vec<NodeRow>) -> Model {
        let next_nodeid = rows.iter().map(|row| row.nodeid).max().unwrap_or(0) + 1;
        Model { rows, saved: None, next_nodeid }
    }

    pub fn in_transaction(&self) -> bool {
        self.saved.is_some()
    }

    /// What the daemon does a moment after a change of address.
    pub fn sync(&mut self) {
        for row in self.rows.iter_mut().filter(|row| row.is_primary()) {
            row.metadatasynced = true;
        }
    }

    pub fn run(&mut self, statements: &[Statement]) -> Result<(), String> {
        for statement in statements {
            self.execute(statement)
                .and_then(|()| self.constraints())
                .map_err(|why| format!("{statement:?}: {why}"))?;
        }
        Ok(())
    }

    fn execute(&mut self, statement: &Statement) -> Result<(), String> {
        match statement {
            Statement::Begin => self.begin(),
            Statement::Commit => self.saved.take().map(drop).ok_or("no transaction".into()),
            Statement::Rollback => {
                self.rows = self.saved.take().ok_or("no transaction")?;
                Ok(())
            }
            Statement::SetLimit(..) | Statement::RecoverPrepared => Ok(()),
            Statement::UpdateNode { nodeid, address, .. } => self.update(*nodeid, address),
            Statement::SetPoolinfo { nodeid, address } => {
                let text = format!("host={} port={}", address.host, address.port);
                self.poolinfo(*nodeid, Some(text))
            }
            Statement::DropPoolinfo { nodeid } => self.poolinfo(*nodeid, None),
            Statement::RemoveNode { address } => self.remove(address),
            Statement::SetCoordinatorHost { address } => {
                if self.rows.iter().any(|row| row.groupid == 0) {
                    return Err("server crashes or waits for every worker".into());
                }
                self.add(0, address, NodeRole::Primary, DEFAULT_CLUSTER)
            }
            Statement::AddPrimary { group, address } => {
                self.add(*group, address, NodeRole::Primary, DEFAULT_CLUSTER)
            }
            Statement::AddSecondary { group, address, cluster } => {
                self.add(*group, address, NodeRole::Secondary, cluster)
            }
            other => Err(format!("the model does not know {other:?}")),
        }
    }

    fn begin(&mut self) -> Result<(), String> {
        let nested = self.saved.replace(self.rows.clone()).is_some();
        (!nested).then_some(()).ok_or("nested transaction".into())
    }

    fn update(&mut self, nodeid: i32, address: &Address) -> Result<(), String> {
        if let Some(row) = self.rows.iter().find(|row| row.address() == *address) {
            let same = row.nodeid == nodeid;
            return same.then_some(()).ok_or("there is already another node".into());
        }
        let row = self.rows.iter_mut().find(|row| row.nodeid == nodeid);
        let row = row.ok_or("node not found")?;
        row.nodename = address.host.clone();
        row.nodeport = address.port;
        let workers = |row: &&mut NodeRow| row.is_primary() && row.groupid != 0;
        for worker in self.rows.iter_mut().filter(workers) {
            worker.metadatasynced = false;
        }
        Ok(())
    }

    fn poolinfo(&mut self, nodeid: i32, text: Option<String>) -> Result<(), String> {
        let row = self.rows.iter_mut().find(|row| row.nodeid == nodeid);
        row.ok_or("node not found")?.poolinfo = text;
        Ok(())
    }

    fn remove(&mut self, address: &Address) -> Result<(), String> {
        self.in_step()?;
        let at = self.rows.iter().position(|row| row.address() == *address);
        let gone = self.rows.remove(at.ok_or("node does not exist")?);
        (!gone.is_primary()).then_some(()).ok_or("a primary was removed".into())
    }

    fn add(
        &mut self,
        group: u32,
        address: &Address,
        role: NodeRole,
        cluster: &str,
    ) -> Result<(), String> {
        self.in_step()?;
        if self.rows.iter().any(|row| row.address() == *address) {
            return Err("the old nodeid comes back silently".into());
        }
        let mut added = row(self.next_nodeid, group, &address.host);
        self.next_nodeid += 1;
        added.nodeport = address.port;
        added.noderole = role;
        added.nodecluster = cluster.to_string();
        added.hasmetadata = role == NodeRole::Primary || group == 0;
        added.metadatasynced = added.hasmetadata;
        self.rows.push(added);
        let has_primary = |group| crate::node::primary_of(&self.rows, group).is_some();
        (has_primary(0) && has_primary(group))
            .then_some(())
            .ok_or("added before its coordinator or primary".into())
    }

    fn in_step(&self) -> Result<(), String> {
        if self.saved.is_some() {
            return Err("rows are added and removed outside a transaction".into());
        }
        let behind = self.rows.iter().any(NodeRow::is_unsynced);
        (!behind).then_some(()).ok_or("a metadata node is out of sync".into())
    }

    /// The table's own: unique address, one primary per group, its cluster.
    fn constraints(&self) -> Result<(), String> {
        for (at, row) in self.rows.iter().enumerate() {
            if row.is_primary() && row.nodecluster != DEFAULT_CLUSTER {
                return Err("primaries are only allowed in the default cluster".into());
            }
            for other in &self.rows[at + 1..] {
                if row.address() == other.address() {
                    return Err(format!("duplicate {}", row.address()));
                }
                if row.is_primary() && other.is_primary() && row.groupid == other.groupid {
                    return Err("there cannot be two primary nodes in a group".into());
                }
            }
        }
        Ok(())
    }
}
