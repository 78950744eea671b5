//! What gateways call. A session is its opener's: no other gateway acts for it.

use super::caller::{Acting, refused};
use super::forward::Answer;
use super::{PUBLISH, State, route_of};
use crate::service::{Metad, unavailable};
use futures::future::FutureExt;
use std::collections::BTreeMap;
use std::sync::Arc;
use ullage_model::codec::Versioned;
use ullage_model::command::Command;
use ullage_model::fat::query;
use ullage_model::ids::SessionId;
use ullage_model::limits::{COMMANDS_TOGETHER, QUERIES_TOGETHER};
use ullage_model::rejection::Rejection;
use ullage_model::wire::enrol::InviteRequest;
use ullage_model::wire::members::MembersRequest;
use ullage_model::wire::metad::{
    AllocateRequest, Done, EndSessionRequest, MetadError, OpenSessionRequest, Query, QueryManyRequest,
    RenewSessionRequest, ReportDamagedRequest, ResolveRequest, SubmitManyReply, SubmitManyRequest,
    SubmitReply, SubmitRequest,
};
use ullage_model::wire::routes;
use ullage_transport::api::Api;
use ullage_transport::identity::{Identity, Peer};

/// Adds the calls of gateways.
pub(super) fn add(api: Api<State>) -> Api<State> {
    let api = led(
        api,
        routes::SESSION_OPEN,
        |metad, acting, request: OpenSessionRequest| {
            async move { metad.open_session_of(request, acting.gateway()?).await }.boxed()
        },
    );
    let api = led(
        api,
        routes::SESSION_RENEW,
        |metad, acting, request: RenewSessionRequest| {
            async move {
                metad.owned(request.session, acting).await?;
                metad.renew_session(request).await
            }
            .boxed()
        },
    );
    let api = led(
        api,
        routes::SESSION_END,
        |metad, acting, request: EndSessionRequest| {
            async move {
                metad.owned(request.session, acting).await?;
                metad.end_session(request.session).await.map(|()| Done)
            }
            .boxed()
        },
    );
    let api = led(
        api,
        routes::ALLOCATE,
        |metad, acting, request: AllocateRequest| {
            async move {
                metad.owned(request.session, acting).await?;
                metad.allocate(request).await
            }
            .boxed()
        },
    );
    let api = submitted(
        api,
        routes::SUBMIT,
        |reply: &mut SubmitReply| &mut reply.leader,
        |metad, acting, request: SubmitRequest| {
            async move {
                metad.owned(request.session, acting).await?;
                metad.submit(request).await
            }
            .boxed()
        },
    );
    let api = submitted(
        api,
        routes::SUBMIT_MANY,
        |reply: &mut SubmitManyReply| &mut reply.leader,
        |metad, acting, request| async move { metad.submit_many_of(request, acting).await }.boxed(),
    );
    let api = submitted(
        api,
        routes::RESOLVE,
        |reply: &mut SubmitReply| &mut reply.leader,
        |metad, acting, request: ResolveRequest| {
            async move {
                metad.owned(request.session, acting).await?;
                metad.resolve(request).await
            }
            .boxed()
        },
    );
    let api = led(
        api,
        routes::REPORT_DAMAGED,
        |metad, acting, request: ReportDamagedRequest| {
            async move {
                metad.owned(request.session, acting).await?;
                metad.report_damaged(request).await.map(|()| Done)
            }
            .boxed()
        },
    );
    let api = led(api, routes::OPERATE, |metad, _acting, command: Command| {
        async move {
            if is_an_operators(&command) {
                metad.operate(command).await
            } else {
                Err(refused("this command is not an operator's"))
            }
        }
        .boxed()
    });
    let api = led(api, routes::INVITE, |metad, _acting, request: InviteRequest| {
        async move { metad.invite(request).await }.boxed()
    });
    answered_anywhere(members(api))
}

/// A call that the leader answers.
fn led<Req, Resp>(
    api: Api<State>,
    path: &'static str,
    handler: fn(Arc<Metad>, Acting, Req) -> Answer<Resp>,
) -> Api<State>
where
    Req: Versioned + Clone + Send + Sync + 'static,
    Resp: Versioned + Send + 'static,
{
    let route = route_of(path);
    api.call_with(route, move |state: State, caller, request: Req| {
        let acting = Acting::of(&caller, route.callers);
        state.by_leader(path, acting, request, handler).boxed()
    })
}

/// [`led`], for calls whose answer names the leader, at `leader`, when it came from elsewhere.
fn submitted<Req, Resp>(
    api: Api<State>,
    path: &'static str,
    leader: fn(&mut Resp) -> &mut Option<String>,
    handler: fn(Arc<Metad>, Acting, Req) -> Answer<Resp>,
) -> Api<State>
where
    Req: Versioned + Clone + Send + Sync + 'static,
    Resp: Versioned + Send + 'static,
{
    let route = route_of(path);
    api.call_with(route, move |state: State, caller, request: Req| {
        async move {
            let acting = Acting::of(&caller, route.callers);
            let metad = Arc::clone(&state.metad);
            let mut answer = state.by_leader(path, acting, request, handler).await?;
            if let Some((_, address)) = metad.leader_elsewhere() {
                *leader(&mut answer) = Some(address);
            }
            Ok::<_, MetadError>(answer)
        }
        .boxed()
    })
}

/// The membership: told by the leader, who knows most; by any node, if there is none. Changed by the leader.
fn members(api: Api<State>) -> Api<State> {
    let route = route_of(routes::MEMBERS);
    let api = api.call_with(route, move |state: State, caller, request: MembersRequest| {
        async move {
            let acting = Acting::of(&caller, route.callers).map(Acting::patiently);
            let metad = Arc::clone(&state.metad);
            let list = request == MembersRequest::List && acting.is_ok();
            let asked = state.by_leader(route.path, acting, request, |metad, _acting, request| {
                async move { metad.members(request).await }.boxed()
            });
            match asked.await {
                Err(error) if list => {
                    tracing::debug!(%error, "the membership is told as this node knows it");
                    metad.members(MembersRequest::List).await
                }
                answer => answer,
            }
        }
        .boxed()
    });
    // A metadata node speaks for itself here.
    api.call(route_of(PUBLISH), |state: State, peer, command: Command| {
        async move {
            let answer = match peer {
                Peer::Known(Identity::Metad(node)) => state.metad.published(node, command).await,
                other => Err(refused(format!("this call is not for {other}"))),
            };
            state.metrics.answered(PUBLISH, &answer);
            answer
        }
        .boxed()
    })
}

/// Questions that each node answers itself.
fn answered_anywhere(api: Api<State>) -> Api<State> {
    let route = route_of(routes::QUERY);
    let api = api.call_with(route, move |state: State, caller, question: Query| {
        async move {
            let answer = match Acting::of(&caller, route.callers) {
                Ok(acting) => {
                    let answer = tokio::time::timeout(acting.within, state.metad.query(question)).await;
                    answer.unwrap_or_else(|_| Err(unavailable("no answer in time")))
                }
                Err(refused) => Err(refused),
            };
            let answer = answer.map_err(not_here);
            state.metrics.answered(route.path, &answer);
            answer
        }
        .boxed()
    });
    let many = route_of(routes::QUERY_MANY);
    let api = api.call_with(many, move |state: State, caller, questions: QueryManyRequest| {
        async move {
            let answer = match Acting::of(&caller, many.callers) {
                Ok(_) if questions.queries.len() > QUERIES_TOGETHER => Err(refused("too many questions")),
                Ok(acting) => {
                    let asked = state.metad.query_many(questions);
                    let answer = tokio::time::timeout(acting.within, asked).await;
                    answer.unwrap_or_else(|_| Err(unavailable("no answer in time")))
                }
                Err(refused) => Err(refused),
            };
            let answer = answer.map_err(not_here);
            state.metrics.answered(many.path, &answer);
            answer
        }
        .boxed()
    });
    api.call(route_of(routes::STATUS), |state: State, _peer, _nothing: Done| {
        async move {
            let answer = state.metad.status();
            state.metrics.answered(routes::STATUS, &answer);
            answer
        }
        .boxed()
    })
}

/// A question that this node cannot answer now need not go to the leader.
pub(super) fn not_here(error: MetadError) -> MetadError {
    match error {
        MetadError::NotLeader { .. } => MetadError::Unavailable("no leader is known".to_owned()),
        error => error,
    }
}

/// Commands that operators give by way of a gateway. All others are metad's own, or belong to a session.
fn is_an_operators(command: &Command) -> bool {
    matches!(
        command,
        Command::SetClass(_) | Command::SetInline(_) | Command::RevokeVendor { .. }
    )
}

impl Metad {
    /// Refuses a gateway that acts for a session of another one, or for one that is not there.
    async fn owned(&self, session: SessionId, acting: Acting) -> Result<(), MetadError> {
        let instance = acting.gateway()?;
        // What was opened by an earlier leader must be known.
        self.leading().await?;
        self.owned_by(session, instance)
    }

    fn owned_by(&self, session: SessionId, instance: u64) -> Result<(), MetadError> {
        let row = query::session(&**self.stale(), session).map_err(unavailable)?;
        match row {
            Some(row) if row.instance == instance => Ok(()),
            Some(_) => Err(refused(format!("{session} is another gateway's"))),
            None => Err(MetadError::Refused(Rejection::SessionGone)),
        }
    }

    /// Decides commands that came together; each must be of a session that `acting` may act for.
    async fn submit_many_of(
        &self,
        request: SubmitManyRequest,
        acting: Acting,
    ) -> Result<SubmitManyReply, MetadError> {
        if request.commands.len() > COMMANDS_TOGETHER {
            return Err(refused("too many commands"));
        }
        let instance = acting.gateway()?;
        // What was opened by an earlier leader must be known.
        self.leading().await?;
        let mut known = BTreeMap::new();
        let may = |session: SessionId| {
            let known = known.entry(session);
            known.or_insert_with(|| self.owned_by(session, instance)).clone()
        };
        let answers = self.submit_many(request, may).await?;
        Ok(SubmitManyReply {
            answers,
            leader: None,
        })
    }
}
