//! Examples of every command: lines, and what each does.
//!
//! They stand at the end of `--help` and of the man pages. A test reads every line as a shell
//! would, as far as single quotes go.

/// A line and what it does.
pub(crate) type Example = (&'static str, &'static str);

/// By the path of the command.
pub(crate) const EXAMPLES: &[(&str, &[Example])] = &[
    (
        "",
        &[
            ("matriarchctl -c /etc/patroni/pg1.yml list", "with the configuration of the daemon"),
            ("matriarchctl -d 10.0.0.1:2379 list shop", "with nothing but the store"),
            ("matriarchctl -c /etc/patroni/pg1.yml doctor", "what is wrong, or will be"),
        ],
    ),
    (
        "decisions",
        &[
            ("matriarchctl decisions pg2", "the last ones of pg2"),
            ("matriarchctl decisions pg2 shop -W", "again every two seconds"),
        ],
    ),
    (
        "demote-cluster",
        &[(
            "matriarchctl demote-cluster shop --host dr1.example,dr2.example --port 5432",
            "shop follows the cluster on these hosts from now on",
        )],
    ),
    (
        "doctor",
        &[
            ("matriarchctl doctor", "exit code 0: nothing, 3: warnings, 4: errors"),
            ("matriarchctl doctor shop -f json", "for a program"),
        ],
    ),
    (
        "dsn",
        &[
            ("matriarchctl dsn shop", "host and port of the leader"),
            ("matriarchctl dsn shop -r replica", "of any replica"),
        ],
    ),
    (
        "edit-config",
        &[
            ("matriarchctl edit-config", "in $EDITOR"),
            ("matriarchctl edit-config -s ttl=20 -s loop_wait=5", "two settings"),
            ("matriarchctl edit-config -p max_connections=200", "a setting of PostgreSQL"),
            (
                "matriarchctl edit-config -s pause=null --force",
                "back to the default, without a prompt",
            ),
        ],
    ),
    ("explain", &[("matriarchctl explain pg2", "why pg2 does not lead, follow or run")]),
    (
        "failover",
        &[("matriarchctl failover shop --candidate pg2", "pg2 leads, even without a leader")],
    ),
    (
        "flush",
        &[
            ("matriarchctl flush shop pg2 restart", "forget the scheduled restart of pg2"),
            ("matriarchctl flush shop switchover", "forget the scheduled switchover"),
        ],
    ),
    ("history", &[("matriarchctl history shop -f json", "for a program")]),
    (
        "list",
        &[
            ("matriarchctl list", "the configured cluster"),
            ("matriarchctl list -W", "again every two seconds"),
            ("matriarchctl list -e -f json", "everything, for a program"),
        ],
    ),
    ("pause", &[("matriarchctl pause --wait", "no automatic failover on any member from now on")]),
    ("promote-cluster", &[("matriarchctl promote-cluster shop-dr", "shop-dr opens for writes")]),
    (
        "query",
        &[
            ("matriarchctl query -c 'SELECT count(*) FROM orders'", "on the leader"),
            (
                "matriarchctl query -r replica -d shop -c 'SELECT pg_last_wal_replay_lsn()' -W",
                "on a replica, again every two seconds",
            ),
            ("matriarchctl -c pg1.yml query --file - --format json", "SQL from the standard input"),
        ],
    ),
    (
        "reinit",
        &[("matriarchctl reinit shop pg2 --wait", "pg2 is copied anew; wait until it is done")],
    ),
    ("reload", &[("matriarchctl reload shop", "all members read their files again")]),
    ("remove", &[("matriarchctl remove shop", "delete it from the store; the data stay")]),
    (
        "restart",
        &[
            ("matriarchctl restart shop pg2", "PostgreSQL of one member"),
            ("matriarchctl restart shop --pending -r replica", "replicas with a pending restart"),
            ("matriarchctl restart shop pg2 --scheduled 2035-06-01T03:00+02:00", "later"),
        ],
    ),
    ("resume", &[("matriarchctl resume --wait", "the end of a pause, known to all members")]),
    ("show-config", &[("matriarchctl show-config", "settings of the whole cluster")]),
    ("slots", &[("matriarchctl slots -f tsv", "for a program")]),
    (
        "switchover",
        &[
            ("matriarchctl switchover", "asks for all it needs to know"),
            ("matriarchctl switchover shop --candidate pg2 --force", "now, without a prompt"),
            (
                "matriarchctl switchover shop --scheduled 2035-06-01T03:00+02:00",
                "later, to the best candidate",
            ),
        ],
    ),
    (
        "topology",
        &[
            ("matriarchctl topology", "each member below the one that it streams from"),
            ("matriarchctl topology --formation", "all regions, and what is wrong"),
        ],
    ),
    (
        "version",
        &[("matriarchctl version", "of this program"), ("matriarchctl version shop", "of members")],
    ),
    (
        "region",
        &[
            ("matriarchctl region list", "where the formation is"),
            ("matriarchctl region switch --to b", "move it"),
        ],
    ),
    ("region list", &[("matriarchctl region list", "role, epoch, groups and lag of each region")]),
    ("region check", &[("matriarchctl region check --to b", "what would hinder a move to b")]),
    (
        "region switch",
        &[
            ("matriarchctl region switch --to b --dry-run", "show the plan, change nothing"),
            ("matriarchctl region switch --to b --max-pause 5", "now, if writes stop 5 s at most"),
            (
                "matriarchctl region switch --to b --cron '0 3 * * 0' --timezone Europe/Vienna",
                "every Sunday at three",
            ),
        ],
    ),
    ("region abort", &[("matriarchctl region abort --move", "give the running move up")]),
    ("region history", &[("matriarchctl region history", "past moves, and why some failed")]),
    ("citus", &[("matriarchctl citus check", "is pg_dist_node as the store wants it?")]),
    ("citus nodes", &[("matriarchctl citus nodes", "the rows of pg_dist_node")]),
    ("citus check", &[("matriarchctl citus check shop", "exit code 1 if a row is wrong")]),
    ("citus remove-group", &[("matriarchctl citus remove-group 3", "empty group 3 and remove it")]),
    (
        "demo",
        &[
            ("matriarchctl demo --keep", "start it, and leave it running"),
            ("matriarchctl demo --stop", "stop it"),
        ],
    ),
    (
        "completion",
        &[
            ("matriarchctl completion bash", "for /etc/bash_completion.d/matriarchctl"),
            ("matriarchctl completion zsh --program matriarch", "of the daemon"),
        ],
    ),
    ("man", &[("matriarchctl man /usr/local/share/man/man1", "write the man pages there")]),
];
