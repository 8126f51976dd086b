//! Discovery against a small name server and a peer that are made here.

use super::*;
use hickory_resolver::proto::op::{Message, MessageType, OpCode, ResponseCode};
use hickory_resolver::proto::rr::rdata::SRV;
use hickory_resolver::proto::rr::{Name, Record};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::str::FromStr;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, UdpSocket};

type Zone = BTreeMap<&'static str, Vec<(&'static str, u16)>>;

/// Answers questions for SRV records from the zone; the rest does not exist.
async fn name_server(zone: Zone) -> SocketAddr {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let address = socket.local_addr().unwrap();
    tokio::spawn(async move {
        let mut buffer = [0; 4096];
        loop {
            let (count, from) = socket.recv_from(&mut buffer).await.unwrap();
            let reply = reply(&zone, &Message::from_vec(&buffer[..count]).unwrap());
            socket.send_to(&reply.to_vec().unwrap(), from).await.unwrap();
        }
    });
    address
}

fn reply(zone: &Zone, asked: &Message) -> Message {
    let query = asked.queries[0].clone();
    let name = query.name().to_utf8();
    let mut reply = Message::new(asked.id, MessageType::Response, OpCode::Query);
    let found = zone.get(name.as_str()).filter(|_| query.query_type() == RecordType::SRV);
    if found.is_none() {
        reply.metadata.response_code = ResponseCode::NXDomain;
    }
    for (target, port) in found.into_iter().flatten() {
        let srv = SRV::new(0, 0, *port, Name::from_str(target).unwrap());
        reply.add_answer(Record::from_rdata(query.name().clone(), 60, RData::SRV(srv)));
    }
    reply.add_query(query);
    reply
}

async fn find(zone: Zone, suffix: Option<&str>) -> Result<Vec<String>, DcsError> {
    let name_server = Some(name_server(zone).await);
    let suffix = suffix.map(str::to_string);
    let srv = Srv { domain: "example.org".into(), suffix, name_server };
    let _ = rustls::crypto::ring::default_provider().install_default();
    let found = endpoints(&srv, &StoreSettings::default()).await?;
    Ok(found.iter().map(Endpoint::to_string).collect())
}

#[tokio::test]
async fn the_first_service_in_the_order_of_the_field_wins() {
    let zone = Zone::from([
        ("_etcd-client._tcp.example.org.", vec![("a.example.org.", 2379), ("b.example.org.", 1)]),
        ("_etcd-ssl._tcp.example.org.", vec![("c.example.org.", 2379)]),
        ("_etcd._tcp.example.org.", vec![("d.example.org.", 2379)]),
    ]);
    let found = find(zone.clone(), None).await.unwrap();
    assert_eq!(found, ["http://a.example.org:2379", "http://b.example.org:1"]);
    let mut with_tls = zone;
    with_tls.insert("_etcd-client-ssl._tcp.example.org.", vec![("e.example.org.", 3)]);
    assert_eq!(find(with_tls, None).await.unwrap(), ["https://e.example.org:3"]);
}

#[tokio::test]
async fn a_suffix_follows_the_service() {
    let zone = Zone::from([
        ("_etcd-client._tcp.example.org.", vec![("a.example.org.", 1)]),
        ("_etcd-ssl-blue._tcp.example.org.", vec![("b.example.org.", 2)]),
        ("_etcd-blue._tcp.example.org.", vec![("c.example.org.", 3)]),
    ]);
    assert_eq!(find(zone, Some("blue")).await.unwrap(), ["https://b.example.org:2"]);
}

#[tokio::test]
async fn peers_tell_where_clients_are_served() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut asked = [0; 1024];
        let count = stream.read(&mut asked).await.unwrap();
        assert!(asked[..count].starts_with(b"GET /members "));
        let body = r#"[{"id":1,"peerURLs":["http://p:2380"],"clientURLs":["http://x:1"]},
            {"id":2,"name":"new"},{"id":3,"clientURLs":["http://y:2","https://y:3"]}]"#;
        let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", body.len());
        stream.write_all(format!("{head}{body}").as_bytes()).await.unwrap();
    });
    let peers = vec![("127.0.0.1.", port)];
    let zone = Zone::from([("_etcd-server._tcp.example.org.", peers)]);
    assert_eq!(find(zone, None).await.unwrap(), ["http://x:1", "http://y:2", "https://y:3"]);
}

#[tokio::test]
async fn a_domain_without_records_is_named() {
    let error = find(Zone::new(), None).await.unwrap_err();
    assert!(matches!(error, DcsError::Unreachable { .. }));
    assert!(error.to_string().contains("example.org"), "{error}");
}
