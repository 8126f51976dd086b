//! What the daemon's user and its service manager ask by signal.
//!
//! | signal | effect |
//! |---|---|
//! | TERM, INT | orderly end: PostgreSQL stops, the lock is released |
//! | HUP | the configuration is read again |
//! | ABRT, QUIT | the daemon ends at once; PostgreSQL is left running |
//! | USR1, USR2 | nothing |
//!
//! ABRT and QUIT do not wait for a beat: they are for a daemon that hangs.

use tokio::signal::unix::{Signal, SignalKind, signal};

/// As a shell tells the end by SIGQUIT.
const QUIT_CODE: i32 = 131;

/// What a signal asks of the beat.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wish {
    End,
    Reload,
}

pub(super) struct Signals {
    term: Signal,
    int: Signal,
    hup: Signal,
}

impl Signals {
    pub(super) fn catch() -> std::io::Result<Signals> {
        let (abort, quit) = (signal(SignalKind::from_raw(6))?, signal(SignalKind::quit())?);
        tokio::spawn(end_at_once(abort, quit));
        let (usr1, usr2) =
            (signal(SignalKind::user_defined1())?, signal(SignalKind::user_defined2())?);
        tokio::spawn(pass_over(usr1, usr2));
        Ok(Signals {
            term: signal(SignalKind::terminate())?,
            int: signal(SignalKind::interrupt())?,
            hup: signal(SignalKind::hangup())?,
        })
    }

    pub(super) async fn next(&mut self) -> Wish {
        tokio::select! {
            _ = self.term.recv() => Wish::End,
            _ = self.int.recv() => Wish::End,
            _ = self.hup.recv() => Wish::Reload,
        }
    }

    /// Waits for the wish to end; a reload has nothing to reload yet.
    pub(super) async fn end(&mut self) {
        while self.next().await != Wish::End {}
    }
}

async fn end_at_once(mut abort: Signal, mut quit: Signal) {
    let aborted = tokio::select! {
        _ = abort.recv() => true,
        _ = quit.recv() => false,
    };
    let name = if aborted { "SIGABRT" } else { "SIGQUIT" };
    tracing::error!(
        "{name}: the daemon ends at once; PostgreSQL and the lock are left as they are"
    );
    crate::log::flush();
    if aborted {
        std::process::abort();
    }
    std::process::exit(QUIT_CODE);
}

async fn pass_over(mut usr1: Signal, mut usr2: Signal) {
    loop {
        tokio::select! {
            _ = usr1.recv() => tracing::info!("SIGUSR1 means nothing here"),
            _ = usr2.recv() => tracing::info!("SIGUSR2 means nothing here"),
        }
    }
}
