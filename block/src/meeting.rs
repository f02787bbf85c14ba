//! Requests one after the other, in a loop: of those that need no waiting there may be many.

use std::io;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::BlockBackend;
use crate::backend::Request;

/// Where a request's end and its begin meet: it may be over before [`BlockBackend::submit`] returns.
enum Meeting<T> {
    Submitting,
    Submitted,
    Over(T, Request, io::Result<()>),
}

impl BlockBackend {
    /// Carries a request out. What is over before this returns is given back, with `context`; otherwise both are given to
    /// `later` when it is.
    pub fn submit_with<T: Send + 'static>(
        self: &Arc<Self>,
        request: Request,
        context: T,
        later: impl FnOnce(T, Request, io::Result<()>) + Send + 'static,
    ) -> Option<(T, Request, io::Result<()>)> {
        let meeting = Arc::new(Mutex::new(Meeting::Submitting));
        let theirs = meeting.clone();
        let done = move |request: Request, result: io::Result<()>| {
            let mut meeting = theirs.lock();
            if matches!(*meeting, Meeting::Submitting) {
                *meeting = Meeting::Over(context, request, result);
                return;
            }
            drop(meeting);
            later(context, request, result);
        };
        self.submit(request, Box::new(done));
        let over = std::mem::replace(&mut *meeting.lock(), Meeting::Submitted);
        match over {
            Meeting::Over(context, request, result) => Some((context, request, result)),
            _ => None,
        }
    }
}
