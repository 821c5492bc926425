//! [`Ports`]: the sockets beside the listeners': the admin port and the status port.

use std::io;

use portolan_admin::{AdminState, Readiness};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;

/// Served until they are closed.
pub(super) struct Ports {
    /// Further handles, for a process that takes over.
    pub(super) handles: Vec<std::net::TcpListener>,
    /// Its end closes them here.
    open: watch::Sender<()>,
    served: JoinSet<io::Result<()>>,
}

impl Ports {
    /// Another process answers there. Comes back when whoever has come here is answered.
    pub(super) fn close(self) -> impl Future<Output = ()> {
        let Self { handles, open, mut served } = self;
        drop((handles, open));
        async move { while served.join_next().await.is_some() {} }
    }
}

/// Serves the admin port and the status port, in this order.
pub(super) fn serve_ports(ports: Vec<TcpListener>, state: AdminState, readiness: &Readiness) -> anyhow::Result<Ports> {
    let open = watch::Sender::new(());
    let mut handles = Vec::new();
    let mut served = JoinSet::new();
    for (at, port) in ports.into_iter().enumerate() {
        let port = port.into_std()?;
        handles.push(port.try_clone()?);
        let port = TcpListener::from_std(port)?;
        let mut closed = open.subscribe();
        let shutdown = async move { while closed.changed().await.is_ok() {} };
        if at == 0 {
            served.spawn(portolan_admin::serve(port, state.clone(), shutdown));
        } else {
            served.spawn(portolan_admin::serve_status(port, readiness.clone(), shutdown));
        }
    }
    Ok(Ports { handles, open, served })
}
