//! A queue at a distance: requests and answers as bytes, over whatever carries them.
//!
//! ```text
//! worker → RemoteQueue → Transport → (HTTP, by the node) → serve → Queue
//! ```
//!
//! The owner's clock counts: a remote worker's time is not sent. Bytes are postcard; the first is the version.

use super::{
    FencingToken, Job, JobKey, JobQueue, JobRecord, JobResult, JobState, Lease, Millis, QueueError,
};
use serde::{Deserialize, Serialize};

/// Version of requests and answers.
pub const VERSION: u8 = 1;

/// A call to [`JobQueue`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub enum Request {
    Submit {
        job: Box<Job>,
    },
    Lease {
        worker: String,
        millis: u64,
    },
    Extend {
        key: JobKey,
        token: FencingToken,
        millis: u64,
    },
    Complete {
        key: JobKey,
        token: FencingToken,
        result: Box<JobResult>,
    },
    Fail {
        key: JobKey,
        token: FencingToken,
        reason: String,
    },
    Release {
        key: JobKey,
        token: FencingToken,
    },
    Reclaim,
    Retry {
        key: JobKey,
    },
    Forget {
        key: JobKey,
    },
    List,
    Get {
        key: JobKey,
    },
    Result {
        key: JobKey,
    },
}

/// What a call returns.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub enum Answer {
    Record(Box<JobRecord>),
    Lease(Option<Box<Lease>>),
    Extended(Millis),
    State(JobState),
    Nothing,
    Keys(Vec<JobKey>),
    Records(Vec<JobRecord>),
    Found(Option<Box<JobRecord>>),
    Result(Option<Box<JobResult>>),
}

impl Request {
    /// Whether a proving machine may ask this. The rest is for the queue's owner.
    pub fn is_for_workers(&self) -> bool {
        matches!(
            self,
            Self::Lease { .. }
                | Self::Extend { .. }
                | Self::Complete { .. }
                | Self::Fail { .. }
                | Self::Release { .. }
        )
    }
}

/// Answers one request in bytes from a proving machine. Requests that only the owner may make are refused.
pub fn serve(queue: &dyn JobQueue, request: &[u8], now: Millis) -> Vec<u8> {
    let answer = decode(request).and_then(|request: Request| {
        if request.is_for_workers() {
            call(queue, request, now)
        } else {
            Err(QueueError::Remote(
                "only the queue's owner may do that".into(),
            ))
        }
    });
    encode(&answer)
}

/// Makes the call that a request describes.
///
/// # Errors
/// Whatever the queue refuses.
pub fn call(queue: &dyn JobQueue, request: Request, now: Millis) -> Result<Answer, QueueError> {
    Ok(match request {
        Request::Submit { job } => Answer::Record(Box::new(queue.submit(&job, now)?)),
        Request::Lease { worker, millis } => {
            Answer::Lease(queue.lease(&worker, millis, now)?.map(Box::new))
        }
        Request::Extend { key, token, millis } => {
            Answer::Extended(queue.extend(&key, token, millis, now)?)
        }
        Request::Complete { key, token, result } => {
            queue.complete(&key, token, &result, now)?;
            Answer::Nothing
        }
        Request::Fail { key, token, reason } => {
            Answer::State(queue.fail(&key, token, &reason, now)?)
        }
        Request::Release { key, token } => {
            queue.release(&key, token, now)?;
            Answer::Nothing
        }
        Request::Reclaim => Answer::Keys(queue.reclaim(now)?),
        Request::Retry { key } => {
            queue.retry(&key, now)?;
            Answer::Nothing
        }
        Request::Forget { key } => {
            queue.forget(&key)?;
            Answer::Nothing
        }
        Request::List => Answer::Records(queue.list()?),
        Request::Get { key } => Answer::Found(queue.get(&key)?.map(Box::new)),
        Request::Result { key } => Answer::Result(queue.result(&key)?.map(Box::new)),
    })
}

fn encode<T: Serialize>(value: &T) -> Vec<u8> {
    let mut bytes = vec![VERSION];
    bytes.extend(
        postcard::to_allocvec(value).expect("owned data of known length always serializes"),
    );
    bytes
}

fn decode<T: for<'de> Deserialize<'de>>(bytes: &[u8]) -> Result<T, QueueError> {
    let remote = |what: String| QueueError::Remote(what);
    match bytes.split_first() {
        Some((&VERSION, body)) => {
            postcard::from_bytes(body).map_err(|error| remote(format!("unreadable: {error}")))
        }
        Some((version, _)) => Err(remote(format!("version {version} is not {VERSION}"))),
        None => Err(remote("empty".into())),
    }
}

/// Carries a request to the queue's owner and its answer back, blocking. The node does it over HTTP.
pub trait Transport: Send + Sync {
    /// Sends a request and waits for the answer.
    ///
    /// # Errors
    /// If there is no answer, in words.
    fn exchange(&self, request: &[u8]) -> Result<Vec<u8>, String>;
}

/// A queue that another process owns.
pub struct RemoteQueue<T> {
    transport: T,
}

impl<T: Transport> RemoteQueue<T> {
    /// The queue at the other end.
    pub fn new(transport: T) -> Self {
        Self { transport }
    }

    fn ask(&self, request: &Request) -> Result<Answer, QueueError> {
        let answer = self
            .transport
            .exchange(&encode(request))
            .map_err(QueueError::Remote)?;
        decode::<Result<Answer, QueueError>>(&answer)?
    }

    fn ask_nothing(&self, request: &Request) -> Result<(), QueueError> {
        match self.ask(request)? {
            Answer::Nothing => Ok(()),
            _ => Err(unexpected()),
        }
    }
}

fn unexpected() -> QueueError {
    QueueError::Remote("the answer does not fit the request".into())
}

impl<T: Transport> JobQueue for RemoteQueue<T> {
    fn submit(&self, job: &Job, _now: Millis) -> Result<JobRecord, QueueError> {
        match self.ask(&Request::Submit {
            job: Box::new(job.clone()),
        })? {
            Answer::Record(record) => Ok(*record),
            _ => Err(unexpected()),
        }
    }

    fn lease(&self, worker: &str, millis: u64, _now: Millis) -> Result<Option<Lease>, QueueError> {
        match self.ask(&Request::Lease {
            worker: worker.to_owned(),
            millis,
        })? {
            Answer::Lease(lease) => Ok(lease.map(|lease| *lease)),
            _ => Err(unexpected()),
        }
    }

    fn extend(
        &self,
        key: &JobKey,
        token: FencingToken,
        millis: u64,
        _now: Millis,
    ) -> Result<Millis, QueueError> {
        match self.ask(&Request::Extend {
            key: *key,
            token,
            millis,
        })? {
            Answer::Extended(end) => Ok(end),
            _ => Err(unexpected()),
        }
    }

    fn complete(
        &self,
        key: &JobKey,
        token: FencingToken,
        result: &JobResult,
        _now: Millis,
    ) -> Result<(), QueueError> {
        let result = Box::new(result.clone());
        self.ask_nothing(&Request::Complete {
            key: *key,
            token,
            result,
        })
    }

    fn fail(
        &self,
        key: &JobKey,
        token: FencingToken,
        reason: &str,
        _now: Millis,
    ) -> Result<JobState, QueueError> {
        match self.ask(&Request::Fail {
            key: *key,
            token,
            reason: reason.to_owned(),
        })? {
            Answer::State(state) => Ok(state),
            _ => Err(unexpected()),
        }
    }

    fn release(&self, key: &JobKey, token: FencingToken, _now: Millis) -> Result<(), QueueError> {
        self.ask_nothing(&Request::Release { key: *key, token })
    }

    fn reclaim(&self, _now: Millis) -> Result<Vec<JobKey>, QueueError> {
        match self.ask(&Request::Reclaim)? {
            Answer::Keys(keys) => Ok(keys),
            _ => Err(unexpected()),
        }
    }

    fn retry(&self, key: &JobKey, _now: Millis) -> Result<(), QueueError> {
        self.ask_nothing(&Request::Retry { key: *key })
    }

    fn forget(&self, key: &JobKey) -> Result<(), QueueError> {
        self.ask_nothing(&Request::Forget { key: *key })
    }

    fn list(&self) -> Result<Vec<JobRecord>, QueueError> {
        match self.ask(&Request::List)? {
            Answer::Records(records) => Ok(records),
            _ => Err(unexpected()),
        }
    }

    fn get(&self, key: &JobKey) -> Result<Option<JobRecord>, QueueError> {
        match self.ask(&Request::Get { key: *key })? {
            Answer::Found(record) => Ok(record.map(|record| *record)),
            _ => Err(unexpected()),
        }
    }

    fn result(&self, key: &JobKey) -> Result<Option<JobResult>, QueueError> {
        match self.ask(&Request::Result { key: *key })? {
            Answer::Result(result) => Ok(result.map(|result| *result)),
            _ => Err(unexpected()),
        }
    }
}
