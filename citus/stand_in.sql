-- A stand-in for the Citus extension: its node catalog and the calls on it.
--
-- For tests and demonstrations on PostgreSQL without the extension. Installs
-- into the connected database in one batch, as a superuser, any number of
-- times. Arguments, defaults, results and error texts are the extension's.
--
-- What it cannot do, on purpose:
-- * There are no shards and no distributed queries, so nothing is locked but
--   pg_dist_node itself, `force` ends nobody, and a pause holds no writer.
-- * No node is contacted. A primary is added without being reached, and no copy
--   of the table goes to workers: each node has its own table, empty until
--   somebody fills it, and its own group number, 0 until
--   `UPDATE pg_dist_local_group`. metadatasynced is therefore true from the
--   start and citus_update_node leaves it true.
-- * recover_prepared_transactions only forgets decisions that are done with:
--   a function cannot end a prepared transaction, and there are no other nodes.
-- * Where the extension crashes the server, the stand-in raises an error.
--
-- The extension lives in pg_catalog, which is closed to others. The stand-in
-- has its own schema, appended to the database's search_path: unqualified
-- names find either. Sessions that were open before must connect again.

DO $$
BEGIN
    IF EXISTS (SELECT FROM pg_extension WHERE extname = 'citus') THEN
        RAISE EXCEPTION 'this database has the citus extension and needs no stand-in';
    END IF;
END $$;

CREATE SCHEMA IF NOT EXISTS citus_stand_in;
GRANT USAGE ON SCHEMA citus_stand_in TO PUBLIC;

DO $$
DECLARE
    wanted text;
BEGIN
    SELECT substr(setting, length('search_path=') + 1) INTO wanted
      FROM pg_db_role_setting s
      JOIN pg_database d ON d.oid = s.setdatabase AND d.datname = current_database(),
           unnest(s.setconfig) AS setting
     WHERE s.setrole = 0 AND setting LIKE 'search\_path=%';
    wanted := coalesce(nullif(wanted, ''), '"$user", public');
    IF wanted !~ '\mcitus_stand_in\M' THEN
        wanted := wanted || ', citus_stand_in';
        EXECUTE format('ALTER DATABASE %I SET search_path TO %s', current_database(), wanted);
    END IF;
    PERFORM set_config('search_path', wanted, false);
END $$;

DO $$
BEGIN
    IF to_regtype('citus_stand_in.noderole') IS NULL THEN
        CREATE TYPE citus_stand_in.noderole AS ENUM ('primary', 'secondary', 'unavailable');
    END IF;
END $$;

CREATE SEQUENCE IF NOT EXISTS citus_stand_in.pg_dist_node_nodeid_seq;
CREATE SEQUENCE IF NOT EXISTS citus_stand_in.pg_dist_groupid_seq;

CREATE TABLE IF NOT EXISTS citus_stand_in.pg_dist_node (
    nodeid int PRIMARY KEY DEFAULT nextval('citus_stand_in.pg_dist_node_nodeid_seq'),
    groupid int NOT NULL DEFAULT nextval('citus_stand_in.pg_dist_groupid_seq'),
    nodename text NOT NULL,
    nodeport int NOT NULL DEFAULT 5432,
    noderack text NOT NULL DEFAULT 'default',
    hasmetadata bool NOT NULL DEFAULT false,
    isactive bool NOT NULL DEFAULT true,
    noderole citus_stand_in.noderole NOT NULL DEFAULT 'primary',
    nodecluster name NOT NULL DEFAULT 'default',
    metadatasynced bool DEFAULT false,
    shouldhaveshards bool NOT NULL DEFAULT true,
    nodeisclone bool NOT NULL DEFAULT false,
    nodeprimarynodeid int NOT NULL DEFAULT 0,
    UNIQUE (nodename, nodeport),
    CONSTRAINT primaries_are_only_allowed_in_the_default_cluster
        CHECK (noderole <> 'primary' OR nodecluster = 'default')
);

CREATE TABLE IF NOT EXISTS citus_stand_in.pg_dist_local_group (groupid int PRIMARY KEY);
INSERT INTO citus_stand_in.pg_dist_local_group
SELECT 0 WHERE NOT EXISTS (SELECT FROM citus_stand_in.pg_dist_local_group);

CREATE TABLE IF NOT EXISTS citus_stand_in.pg_dist_transaction (
    groupid int NOT NULL,
    gid text NOT NULL,
    outer_xid xid8,
    UNIQUE (groupid, gid)
);

CREATE TABLE IF NOT EXISTS citus_stand_in.pg_dist_poolinfo (
    nodeid int PRIMARY KEY,
    poolinfo text NOT NULL CONSTRAINT poolinfo_valid CHECK (poolinfo LIKE '%=%')
);

CREATE TABLE IF NOT EXISTS citus_stand_in.pg_dist_authinfo (
    nodeid int NOT NULL,
    rolename name NOT NULL,
    authinfo text NOT NULL
        CONSTRAINT authinfo_valid CHECK (authinfo LIKE '%=%' AND authinfo !~ '\mhost(addr)?\s*='),
    UNIQUE (rolename, nodeid)
);
REVOKE ALL ON citus_stand_in.pg_dist_authinfo FROM PUBLIC;

CREATE OR REPLACE FUNCTION citus_stand_in.one_primary() RETURNS trigger
LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.noderole = 'primary' AND EXISTS (
        SELECT FROM citus_stand_in.pg_dist_node n
         WHERE n.groupid = NEW.groupid AND n.noderole = 'primary' AND n.nodeid <> NEW.nodeid)
    THEN
        RAISE EXCEPTION 'there cannot be two primary nodes in a group';
    END IF;
    RETURN NEW;
END $$;

CREATE OR REPLACE TRIGGER pg_dist_node_trigger
    BEFORE INSERT OR UPDATE ON citus_stand_in.pg_dist_node
    FOR EACH ROW EXECUTE FUNCTION citus_stand_in.one_primary();

CREATE OR REPLACE FUNCTION citus_stand_in.citus_version() RETURNS text
LANGUAGE sql STABLE AS $$
    SELECT 'stand-in for Citus 13.2 on PostgreSQL ' || current_setting('server_version')
$$;

-- Catalog-only, like the extension's: it is true on a standby as well.
CREATE OR REPLACE FUNCTION citus_stand_in.citus_is_coordinator() RETURNS bool
LANGUAGE sql STABLE AS $$
    SELECT coalesce((SELECT groupid = 0 FROM citus_stand_in.pg_dist_local_group), false)
       AND EXISTS (SELECT FROM citus_stand_in.pg_dist_node WHERE groupid = 0)
$$;

CREATE OR REPLACE FUNCTION citus_stand_in.only_on_coordinator() RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
    IF (SELECT groupid <> 0 FROM citus_stand_in.pg_dist_local_group) THEN
        RAISE EXCEPTION 'operation is not allowed on this node'
            USING HINT = 'Connect to the coordinator and run it again.';
    END IF;
END $$;

-- LOCK TABLE in a function would refuse a standby with other words.
CREATE OR REPLACE FUNCTION citus_stand_in.refuse_recovery(mode text) RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
    IF pg_is_in_recovery() THEN
        RAISE EXCEPTION
            'cannot acquire lock mode % on database objects while recovery is in progress', mode
            USING ERRCODE = 'object_not_in_prerequisite_state', HINT = 'Only RowExclusiveLock '
                'or less can be acquired on database objects during recovery.';
    END IF;
END $$;

CREATE OR REPLACE FUNCTION citus_stand_in.citus_add_node(
    nodename text,
    nodeport integer,
    groupid integer DEFAULT -1,
    noderole citus_stand_in.noderole DEFAULT 'primary',
    nodecluster name DEFAULT 'default')
RETURNS integer LANGUAGE plpgsql STRICT AS $$
#variable_conflict use_column
DECLARE
    found int;
    own_group int := citus_add_node.groupid;
    is_primary bool := citus_add_node.noderole = 'primary';
    has_copy bool;
BEGIN
    PERFORM citus_stand_in.only_on_coordinator();
    PERFORM citus_stand_in.refuse_recovery('ExclusiveLock');
    LOCK TABLE citus_stand_in.pg_dist_node IN EXCLUSIVE MODE;
    SELECT n.nodeid INTO found FROM citus_stand_in.pg_dist_node n
     WHERE n.nodename = citus_add_node.nodename AND n.nodeport = citus_add_node.nodeport;
    IF found IS NOT NULL THEN
        RETURN found;
    END IF;
    IF own_group <> 0 AND citus_add_node.nodename <> 'localhost' AND EXISTS (
        SELECT FROM citus_stand_in.pg_dist_node n
         WHERE n.groupid = 0 AND n.noderole = 'primary' AND n.nodename = 'localhost')
    THEN
        RAISE EXCEPTION
            'cannot add a worker node when the coordinator hostname is set to localhost';
    END IF;
    IF own_group = -1 THEN
        own_group := nextval('citus_stand_in.pg_dist_groupid_seq');
    END IF;
    IF is_primary AND EXISTS (
        SELECT FROM citus_stand_in.pg_dist_node n
         WHERE n.groupid = own_group AND n.noderole = 'primary')
    THEN
        RAISE EXCEPTION 'group % already has a primary node', own_group;
    END IF;
    IF is_primary AND citus_add_node.nodecluster <> 'default' THEN
        RAISE EXCEPTION 'primaries must be added to the default cluster';
    END IF;
    has_copy := is_primary OR own_group = 0;
    INSERT INTO citus_stand_in.pg_dist_node
        (groupid, nodename, nodeport, noderole, nodecluster,
         hasmetadata, metadatasynced, shouldhaveshards)
    VALUES (own_group, citus_add_node.nodename, citus_add_node.nodeport, citus_add_node.noderole,
            citus_add_node.nodecluster, has_copy, has_copy, own_group <> 0)
    RETURNING nodeid INTO found;
    RETURN found;
END $$;

CREATE OR REPLACE FUNCTION citus_stand_in.citus_add_secondary_node(
    nodename text,
    nodeport integer,
    primaryname text,
    primaryport integer,
    nodecluster name DEFAULT 'default')
RETURNS integer LANGUAGE plpgsql STRICT AS $$
DECLARE
    own_group int;
BEGIN
    SELECT n.groupid INTO own_group FROM citus_stand_in.pg_dist_node n
     WHERE n.nodename = primaryname AND n.nodeport = primaryport;
    IF own_group IS NULL THEN
        RAISE EXCEPTION 'node at "%:%" does not exist', primaryname, primaryport;
    END IF;
    RETURN citus_stand_in.citus_add_node(
        citus_add_secondary_node.nodename, citus_add_secondary_node.nodeport, own_group,
        'secondary', citus_add_secondary_node.nodecluster);
END $$;

CREATE OR REPLACE FUNCTION citus_stand_in.citus_update_node(
    node_id int,
    new_node_name text,
    new_node_port int,
    force bool DEFAULT false,
    lock_cooldown int DEFAULT 10000)
RETURNS void LANGUAGE plpgsql STRICT AS $$
DECLARE
    found int;
BEGIN
    SELECT nodeid INTO found FROM citus_stand_in.pg_dist_node
     WHERE nodename = new_node_name AND nodeport = new_node_port;
    IF found = node_id THEN
        RETURN;
    ELSIF found IS NOT NULL THEN
        RAISE EXCEPTION 'there is already another node with the specified hostname and port'
            USING ERRCODE = 'object_not_in_prerequisite_state';
    END IF;
    IF NOT EXISTS (SELECT FROM citus_stand_in.pg_dist_node WHERE nodeid = node_id) THEN
        RAISE EXCEPTION 'node % not found', node_id USING ERRCODE = 'no_data_found';
    END IF;
    IF pg_is_in_recovery() THEN
        RAISE EXCEPTION 'cannot assign TransactionIds during recovery'
            USING ERRCODE = 'internal_error';
    END IF;
    LOCK TABLE citus_stand_in.pg_dist_node IN EXCLUSIVE MODE;
    UPDATE citus_stand_in.pg_dist_node
       SET nodename = new_node_name, nodeport = new_node_port
     WHERE nodeid = node_id;
END $$;

CREATE OR REPLACE FUNCTION citus_stand_in.citus_set_coordinator_host(
    host text,
    port integer DEFAULT current_setting('port')::int,
    node_role citus_stand_in.noderole DEFAULT 'primary',
    node_cluster name DEFAULT 'default')
RETURNS void LANGUAGE plpgsql STRICT AS $$
DECLARE
    row_id int;
BEGIN
    LOCK TABLE citus_stand_in.pg_dist_node IN ROW EXCLUSIVE MODE;
    SELECT nodeid INTO row_id FROM citus_stand_in.pg_dist_node
     WHERE groupid = 0 AND noderole = 'primary';
    IF row_id IS NOT NULL THEN
        PERFORM citus_stand_in.citus_update_node(row_id, host, port);
        RETURN;
    END IF;
    IF EXISTS (SELECT FROM citus_stand_in.pg_dist_node WHERE groupid = 0) THEN
        RAISE EXCEPTION 'group 0 has no primary: the extension would crash the server here';
    END IF;
    PERFORM citus_stand_in.citus_add_node(host, port, 0, node_role, node_cluster);
END $$;

CREATE OR REPLACE FUNCTION citus_stand_in.citus_remove_node(nodename text, nodeport integer)
RETURNS void LANGUAGE plpgsql STRICT AS $$
BEGIN
    PERFORM citus_stand_in.only_on_coordinator();
    PERFORM citus_stand_in.refuse_recovery('ExclusiveLock');
    LOCK TABLE citus_stand_in.pg_dist_node IN EXCLUSIVE MODE;
    DELETE FROM citus_stand_in.pg_dist_node n
     WHERE n.nodename = citus_remove_node.nodename AND n.nodeport = citus_remove_node.nodeport;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'node at "%:%" does not exist',
            citus_remove_node.nodename, citus_remove_node.nodeport;
    END IF;
END $$;

CREATE OR REPLACE FUNCTION citus_stand_in.citus_pause_node_within_txn(
    node_id int,
    force bool DEFAULT false,
    lock_cooldown int DEFAULT 10000)
RETURNS void LANGUAGE plpgsql STRICT AS $$
BEGIN
    IF NOT EXISTS (SELECT FROM citus_stand_in.pg_dist_node WHERE nodeid = node_id) THEN
        RAISE EXCEPTION 'node % not found', node_id USING ERRCODE = 'no_data_found';
    END IF;
END $$;

CREATE OR REPLACE FUNCTION citus_stand_in.start_metadata_sync_to_all_nodes() RETURNS bool
LANGUAGE plpgsql AS $$
BEGIN
    PERFORM citus_stand_in.only_on_coordinator();
    PERFORM citus_stand_in.refuse_recovery('ExclusiveLock');
    LOCK TABLE citus_stand_in.pg_dist_node IN EXCLUSIVE MODE;
    UPDATE citus_stand_in.pg_dist_node
       SET hasmetadata = true, metadatasynced = true
     WHERE noderole = 'primary' AND isactive;
    RETURN true;
END $$;

CREATE OR REPLACE FUNCTION citus_stand_in.recover_prepared_transactions() RETURNS int
LANGUAGE plpgsql AS $$
BEGIN
    IF pg_is_in_recovery() THEN
        RAISE EXCEPTION 'writing to worker nodes is not currently allowed'
            USING ERRCODE = 'read_only_sql_transaction', DETAIL = 'the database is read-only';
    END IF;
    LOCK TABLE citus_stand_in.pg_dist_transaction IN SHARE UPDATE EXCLUSIVE MODE;
    DELETE FROM citus_stand_in.pg_dist_transaction t
     WHERE NOT EXISTS (SELECT FROM pg_prepared_xacts p WHERE p.gid = t.gid);
    RETURN 0;
END $$;

CREATE OR REPLACE FUNCTION citus_stand_in.replicate_reference_tables() RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
    PERFORM citus_stand_in.only_on_coordinator();
END $$;

GRANT SELECT ON ALL TABLES IN SCHEMA citus_stand_in TO PUBLIC;
REVOKE ALL ON citus_stand_in.pg_dist_authinfo FROM PUBLIC;
REVOKE ALL ON ALL FUNCTIONS IN SCHEMA citus_stand_in FROM PUBLIC;
GRANT EXECUTE ON FUNCTION citus_stand_in.citus_version() TO PUBLIC;
GRANT EXECUTE ON FUNCTION citus_stand_in.citus_is_coordinator() TO PUBLIC;
