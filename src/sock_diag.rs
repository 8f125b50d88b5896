//! Asks the system how much of what was sent on a TCP connection its peer has acknowledged: `sock_diag(7)`. `TCP_INFO` tells the
//! same, but nothing reads it without unsafe code.

use parking_lot::Mutex;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, netlink, recv, send, socket_with};
use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;

/// The request (`struct inet_diag_req_v2` behind a `struct nlmsghdr`), in bytes.
const REQUEST_BYTES: u32 = 16 + 56;
const SOCK_DIAG_BY_FAMILY: u16 = 20;
const NLM_F_REQUEST: u16 = 1;
const IPPROTO_TCP: u8 = 6;
const INET_DIAG_INFO: u16 = 2;
/// Where the answer has its parts: `idiag_wqueue` of `struct inet_diag_msg`, then the attributes.
const WAITING_AT: usize = 16 + 4 + 48 + 8;
const ATTRIBUTES_AT: usize = 16 + 72;
/// `tcpi_bytes_acked` of `struct tcp_info`, since Linux 4.1.
const ACKNOWLEDGED_AT: usize = 120;

/// What was sent on a connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Sent {
    /// How many bytes wait: to be sent, or to be acknowledged.
    pub(crate) waiting: u32,
    /// How many bytes were acknowledged.
    pub(crate) acknowledged: u64,
}

/// The way to ask. It may be closed, as in a container that allows no netlink sockets.
#[derive(Debug)]
pub(crate) struct SockDiag(Option<Mutex<OwnedFd>>);

impl SockDiag {
    pub(crate) fn open() -> Self {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = socket_with(AddressFamily::NETLINK, SocketType::DGRAM, flags, Some(netlink::SOCK_DIAG));
        if let Err(error) = &socket {
            tracing::debug!(%error, "no netlink socket: what a client has acknowledged is not known");
        }
        Self(socket.ok().map(Mutex::new))
    }

    /// What was sent on this connection, if the system tells.
    pub(crate) fn sent(&self, local: SocketAddr, peer: SocketAddr) -> Option<Sent> {
        let request = request(local, peer)?;
        let socket = self.0.as_ref()?.lock();
        send(&*socket, &request, SendFlags::empty()).ok()?;
        let mut answer = [0; 1024];
        // The answer is there when the request was taken.
        let (_, length) = recv(&*socket, &mut answer[..], RecvFlags::empty()).ok()?;
        read(answer.get(..length)?)
    }
}

fn request(local: SocketAddr, peer: SocketAddr) -> Option<Vec<u8>> {
    let family = if local.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let mut request = Vec::with_capacity(REQUEST_BYTES as usize);
    request.extend(REQUEST_BYTES.to_ne_bytes());
    request.extend(SOCK_DIAG_BY_FAMILY.to_ne_bytes());
    request.extend(NLM_F_REQUEST.to_ne_bytes());
    // The number of the request, and who asks: the system fills it in.
    request.extend([0; 8]);
    request.extend([u8::try_from(family.as_raw()).ok()?, IPPROTO_TCP, 1 << (INET_DIAG_INFO - 1), 0]);
    // In any state.
    request.extend(u32::MAX.to_ne_bytes());
    request.extend(local.port().to_be_bytes());
    request.extend(peer.port().to_be_bytes());
    for address in [local, peer] {
        let mut bytes = [0; 16];
        match address.ip() {
            IpAddr::V4(ip) => bytes[..4].copy_from_slice(&ip.octets()),
            IpAddr::V6(ip) => bytes.copy_from_slice(&ip.octets()),
        }
        request.extend(bytes);
    }
    let interface = if let SocketAddr::V6(local) = local { local.scope_id() } else { 0 };
    request.extend(interface.to_ne_bytes());
    // No cookie: the addresses are enough.
    request.extend([0xff; 8]);
    Some(request)
}

fn read(answer: &[u8]) -> Option<Sent> {
    let kind = u16::from_ne_bytes(answer.get(4..6)?.try_into().ok()?);
    if kind != SOCK_DIAG_BY_FAMILY {
        return None;
    }
    let waiting = u32::from_ne_bytes(answer.get(WAITING_AT..WAITING_AT + 4)?.try_into().ok()?);
    let mut attributes = answer.get(ATTRIBUTES_AT..)?;
    loop {
        let length = usize::from(u16::from_ne_bytes(attributes.get(..2)?.try_into().ok()?));
        let kind = u16::from_ne_bytes(attributes.get(2..4)?.try_into().ok()?);
        let value = attributes.get(4..length)?;
        if kind == INET_DIAG_INFO {
            let acknowledged = value.get(ACKNOWLEDGED_AT..ACKNOWLEDGED_AT + 8)?;
            return Some(Sent { waiting, acknowledged: u64::from_ne_bytes(acknowledged.try_into().ok()?) });
        }
        // Attributes begin at multiples of four bytes.
        attributes = attributes.get(length.next_multiple_of(4)..)?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use socket2::{Domain, Socket, Type};
    use std::io::{ErrorKind, Read as _, Write as _};
    use std::net::{TcpListener, TcpStream};

    /// A connection whose client has room for few bytes.
    fn connection(address: &str) -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind(address).unwrap();
        let address = listener.local_addr().unwrap();
        let client = Socket::new(Domain::for_address(address), Type::STREAM, None).unwrap();
        client.set_recv_buffer_size(4096).unwrap();
        client.connect(&address.into()).unwrap();
        (listener.accept().unwrap().0, client.into())
    }

    #[test]
    fn what_a_client_has_not_acknowledged_is_known() {
        let system = SockDiag::open();
        for address in ["127.0.0.1:0", "[::1]:0"] {
            let (mut server, mut client) = connection(address);
            let sent = || system.sent(server.local_addr().unwrap(), server.peer_addr().unwrap()).unwrap();
            assert_eq!(sent(), Sent { waiting: 0, acknowledged: 0 });
            (&server).write_all(&[0; 100]).unwrap();
            client.read_exact(&mut [0; 100]).unwrap();
            assert_eq!((sent().waiting, sent().acknowledged), (0, 100));
            // It reads no more.
            server.set_nonblocking(true).unwrap();
            let mut count = 100;
            let full = loop {
                match server.write(&[0; 1024]) {
                    Ok(written) => count += written as u64,
                    Err(error) => break error,
                }
            };
            assert_eq!(full.kind(), ErrorKind::WouldBlock);
            let stuck = system.sent(server.local_addr().unwrap(), server.peer_addr().unwrap()).unwrap();
            assert!(
                stuck.waiting > 0 && stuck.acknowledged + u64::from(stuck.waiting) == count,
                "{stuck:?} of {count}"
            );
        }
    }

    #[test]
    fn of_a_connection_that_is_not_there_nothing_is_known() {
        let system = SockDiag::open();
        let (server, client) = connection("127.0.0.1:0");
        let (local, peer) = (server.local_addr().unwrap(), SocketAddr::from(([127, 0, 0, 2], 9)));
        assert_eq!(system.sent(local, peer), None);
        assert!(
            system.sent(local, client.local_addr().unwrap()).is_some(),
            "the answer before is not taken for this one"
        );
        assert_eq!(SockDiag(None).sent(local, peer), None);
    }

    #[test]
    fn an_answer_that_is_cut_short_says_nothing() {
        let (server, _client) = connection("127.0.0.1:0");
        let mut answer = vec![0; 1024];
        let socket = SockDiag::open().0.unwrap().into_inner();
        send(&socket, &request(server.local_addr().unwrap(), server.peer_addr().unwrap()).unwrap(), SendFlags::empty())
            .unwrap();
        let (_, length) = recv(&socket, &mut answer[..], RecvFlags::empty()).unwrap();
        assert!(read(&answer[..length]).is_some());
        let least = ATTRIBUTES_AT + 4 + ACKNOWLEDGED_AT + 8;
        for length in 0..least {
            assert_eq!(read(&answer[..length]), None, "{length}");
        }
    }
}
