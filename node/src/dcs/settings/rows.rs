//! The settings of stores: one row each, as in `config/settings.rs`, whose table has
//! them too. Sections of stores that are not supported are known and refused.

use crate::document::kind::Kind::{self, *};
use crate::document::setting::{Setting, default_among, row};

const PORT: Kind = Whole { min: 1, max: 65535 };
const AT_LEAST_ONE: Kind = Whole { min: 1, max: i64::MAX };

#[rustfmt::skip]
pub const ROWS: &[Setting] = &[
    row("{etcd|etcd3}.host", Text, "", "`host:port` of the store, port 2379.").env(),
    row("{etcd|etcd3}.hosts", Texts, "", "Several of them.").env(),
    row("{etcd|etcd3}.url", Text, "", "URL of the store.").env(),
    row("{etcd|etcd3}.proxy", Text, "", "URL of a proxy before the store.").env(),
    row("{etcd|etcd3}.port", PORT, "2379", "Port of hosts written without one.").env(),
    row("{etcd|etcd3}.protocol", Word(&["http", "https"]), "http", "How to talk to it.").env(),
    row("{etcd|etcd3}.username", Text, "", "User of the store.").env(),
    row("{etcd|etcd3}.password", Secret, "", "Password of the store.").env(),
    row("{etcd|etcd3}.cacert", Path, "", "Authorities the store is verified with.").env(),
    row("{etcd|etcd3}.cert", Path, "", "Client certificate.").env(),
    row("{etcd|etcd3}.key", Path, "", "Its key; default: in the certificate's file.").env(),
    row("{etcd|etcd3}.srv", Text, "", "Domain whose SRV records name the store.").env(),
    row("{etcd|etcd3}.srv_suffix", Text, "", "Comes after the name of each service.").env(),
    row("{etcd|etcd3}.{discovery_srv|srv_domain}", Text, "", "Another name of srv."),
    row("{etcd|etcd3}.use_proxies", Switch, "false", "Do not look for more members.").env(),

    row("consul.{host|url|scheme|cacert|cert|key|dc|consistency}", Text, "", "Of Consul.").foreign().env(),
    row("consul.{service_check_interval|service_check_tls_server_name}", Text, "", "Of Consul.").foreign().env(),
    row("consul.token", Secret, "", "Of Consul.").foreign().env(),
    row("consul.port", PORT, "", "Of Consul.").foreign().env(),
    row("consul.{verify|register_service}", Switch, "", "Of Consul.").foreign().env(),
    row("consul.{checks|service_tags}", Texts, "", "Of Consul.").foreign().env(),
    row("zookeeper.{cacert|cert|key}", Text, "", "Of ZooKeeper.").foreign().env(),
    row("zookeeper.key_password", Secret, "", "Of ZooKeeper.").foreign().env(),
    row("zookeeper.hosts", Texts, "", "Of ZooKeeper.").foreign().env(),
    row("zookeeper.{use_ssl|verify}", Switch, "", "Of ZooKeeper.").foreign().env(),
    row("zookeeper.{set_acls|auth_data}", Map, "", "Of ZooKeeper.").foreign().env(),
    row("exhibitor.hosts", Texts, "", "Of Exhibitor.").foreign().env(),
    row("exhibitor.port", PORT, "", "Of Exhibitor.").foreign().env(),
    row("exhibitor.poll_interval", AT_LEAST_ONE, "", "Of Exhibitor.").foreign(),
    row("kubernetes.{namespace|context|scope_label|role_label|leader_label_value\
        |follower_label_value|standby_leader_label_value|tmp_role_label|pod_ip|cacert}", Text, "",
        "Of Kubernetes.").foreign().env(),
    row("kubernetes.{labels|bootstrap_labels}", Map, "", "Of Kubernetes.").foreign().env(),
    row("kubernetes.{use_endpoints|bypass_api_service}", Switch, "", "Of Kubernetes.").foreign().env(),
    row("kubernetes.ports", Any, "", "Of Kubernetes.").foreign().env(),
    row("kubernetes.retriable_http_codes", Texts, "", "Of Kubernetes.").foreign().env(),
    row("raft.{self_addr|bind_addr|data_dir}", Text, "", "Of Raft.").foreign().env(),
    row("raft.password", Secret, "", "Of Raft.").foreign().env(),
    row("raft.partner_addrs", Texts, "", "Of Raft.").foreign().env(),
    row("raft.{min_timeout|max_timeout|connection_timeout|append_entries_period\
        |connection_retry_time|leader_fallback_timeout}", Real, "", "Of Raft.").foreign().env(),
];

pub(super) fn default_of(path: &str) -> Option<&'static str> {
    default_among(ROWS.iter(), path)
}
