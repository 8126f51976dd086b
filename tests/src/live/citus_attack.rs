//! What the owner of the database plants in it, to be run by a superuser.

use super::citus_formation::{Formation, connect};
use ctl::field::MemberPlan;

/// Each is a call or a table of the daemon's statements, by a name that the planted schema
/// has too.
const PLANT: &str = "
    SET citus.enable_ddl_propagation = off;
    SET citus.enable_create_role_propagation = off;
    SET citus.enable_metadata_sync = off;
    CREATE ROLE mallory LOGIN;
    CREATE SCHEMA evil AUTHORIZATION mallory;
    CREATE TABLE evil.caught (who text, what text);
    ALTER TABLE evil.caught OWNER TO mallory;
    GRANT USAGE ON SCHEMA evil TO PUBLIC;
    SET ROLE mallory;
    CREATE FUNCTION evil.trap(what text) RETURNS void LANGUAGE plpgsql AS $$
        BEGIN INSERT INTO evil.caught VALUES (current_user, what); END $$;
    CREATE FUNCTION evil.pg_is_in_recovery() RETURNS bool LANGUAGE plpgsql AS
        $$ BEGIN PERFORM evil.trap('pg_is_in_recovery'); RETURN false; END $$;
    CREATE FUNCTION evil.set_config(text, text, bool) RETURNS text LANGUAGE plpgsql AS
        $$ BEGIN PERFORM evil.trap('set_config'); RETURN $2; END $$;
    CREATE FUNCTION evil.recover_prepared_transactions() RETURNS int LANGUAGE plpgsql AS
        $$ BEGIN PERFORM evil.trap('recover'); RETURN 0; END $$;
    CREATE FUNCTION evil.citus_update_node(int, text, int, bool, int) RETURNS void
        LANGUAGE plpgsql AS $$ BEGIN PERFORM evil.trap('update_node'); END $$;
    CREATE FUNCTION evil.citus_pause_node_within_txn(int, bool, int) RETURNS void
        LANGUAGE plpgsql AS $$ BEGIN PERFORM evil.trap('pause_node'); END $$;
    CREATE FUNCTION evil.row_to_json(record) RETURNS json LANGUAGE plpgsql AS
        $$ BEGIN PERFORM evil.trap('row_to_json'); RETURN '{}'; END $$;
    RESET ROLE;
    ALTER DATABASE app OWNER TO mallory;
    ALTER DATABASE app SET search_path = evil, pg_catalog;";

/// On the leaders of these groups.
pub async fn plant(formation: &Formation, groups: &[u32]) {
    for group in groups {
        formation.sql(&formation.leader(*group).await, PLANT).await;
    }
}

/// No planted object was run by a superuser; the traps themselves work.
pub async fn assert_nothing_was_caught(formation: &Formation, groups: &[u32]) {
    for group in groups {
        let leader = formation.leader(*group).await;
        let caught = caught(&leader).await;
        assert!(caught.is_empty(), "{}: {caught:?}", leader.name);
        let fall = "SET search_path = evil, pg_catalog; SELECT pg_is_in_recovery()";
        formation.sql(&leader, fall).await;
        assert_eq!(self::caught(&leader).await.len(), 1, "the trap works");
        formation.sql(&leader, "DELETE FROM evil.caught").await;
    }
}

async fn caught(leader: &MemberPlan) -> Vec<(String, String)> {
    let db = connect(leader).await.expect("it takes connections");
    let sql = "SELECT who, what FROM evil.caught WHERE who OPERATOR(pg_catalog.=) 'postgres'";
    let rows = db.query(sql, &[]).await.expect("the trap is there");
    rows.iter().map(|row| (row.get(0), row.get(1))).collect()
}
