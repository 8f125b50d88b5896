//! A real WSGI server, for real Python apps.

use super::python;
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// A gunicorn; ended when dropped.
#[derive(Debug)]
pub struct Gunicorn {
    child: Child,
    pub address: SocketAddr,
}

impl Gunicorn {
    /// Serves `app`, a module of tests/app and the name of its WSGI application.
    pub fn start(app: &str) -> Self {
        // It takes over the socket, so that its port is known before it listens.
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        rustix::io::fcntl_setfd(&listener, rustix::io::FdFlags::empty()).unwrap();
        let fd = std::os::fd::AsRawFd::as_raw_fd(&listener);
        let child = Command::new(python())
            .args([
                "-m",
                "gunicorn",
                "--bind",
                &format!("fd://{fd}"),
                "--workers",
                "1",
                "--header-map",
                "dangerous",
                app,
            ])
            .current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/app"))
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        Self { child, address }
    }

    /// As idlegate's `upstream` names it.
    pub fn upstream(&self) -> String {
        format!("http://{}", self.address)
    }
}

impl Drop for Gunicorn {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
