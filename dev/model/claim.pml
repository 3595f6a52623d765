/* SPDX-License-Identifier: Apache-2.0
 *
 * The claim protocol of the ledger: who may send the paid POST for one clip, and when.
 *
 * Three processes want the same clip: the owner, another task, and the owner's own retry, which may start while the
 * owner is still alive. Any of them may stop for any time at any step, which is what a freeze is, or die.
 * One pause is bounded: the one between the last look at the clock and the moment in which the bytes leave, because no
 * program can notice it. The service accepts late, loses answers and lists late; the list lies.
 *
 * Time is in ticks. No absolute time is kept, only ages that stop at the bound that matters, so the state space is
 * finite although time is not. Every comparison with a constant of Policy is written as in the code.
 *
 * Each safeguard can be taken out with -D; see dev/model/__main__.py for what must happen then.
 */

#ifndef MAX_INTENT_AGE
#define MAX_INTENT_AGE 1            /* oldest intent that is still followed by a POST */
#endif
#ifndef PAUSE
#define PAUSE 1                     /* longest freeze between the check of that age and the bytes leaving */
#endif
#ifndef LONGEST_POST
#define LONGEST_POST 1              /* bytes leave -> latest acceptance */
#endif
#ifndef LIST_LAG
#define LIST_LAG 1                  /* acceptance -> shown in the list */
#endif
#ifndef ABSENCE_CONFIRM_INTERVAL
#define ABSENCE_CONFIRM_INTERVAL 4  /* between the two scans that prove an absence */
#endif
#ifndef LEASE
#define LEASE 3                     /* a claim is left alone for so long after its last change */
#endif
#ifndef CONNECT
#define CONNECT 2                   /* name look-up, TCP and TLS */
#endif
#ifndef CLOCK_MARGIN
#define CLOCK_MARGIN 1              /* clocks may be wrong by this much */
#endif
#ifndef STEP_FORWARD
#define STEP_FORWARD 1              /* the one step of one worker's wall clock, forward or back */
#endif
#ifndef STEP_BACK
#define STEP_BACK 1
#endif
/* Worker 0 is the owner; RETRY is its own retry; who is left is another task. */
#ifndef WORKERS
#define WORKERS 3
#endif
#ifndef RETRY
#define RETRY (WORKERS - 1)
#endif
#ifndef MAX_ACCEPTED
#define MAX_ACCEPTED 1              /* paid requests for the clip */
#endif
#define SLOTS 6                     /* each worker sends at most twice */

#if defined(AGE_BY_WALL_CLOCK) || defined(INTERVAL_BY_WALL_CLOCK)
#define WALL_CLOCK
#endif

mtype:entry   = { NONE, CLAIMED, IN_DOUBT, SUBMITTED, FAILED };
mtype:post    = { NO_POST, FLYING, ACCEPTED };
mtype:finding = { FOUND, ABSENT, INCONCLUSIVE };

/* The ledger: one entry. The second one is used only where the account is part of the name. */
mtype:entry state[2] = NONE;
byte owner[2];
bool intent[2];
bool account[2];
bool doubted[2];                    /* the absence of an earlier POST was proven by the list, not said by the service */
bool scan_due[2];                   /* a settled doubt is owed a later scan for duplicates */

/* The service: what becomes of the POSTs. Worker w uses the slots 2w and 2w+1; one that came to nothing is free again. */
mtype:post post[SLOTS] = NO_POST;
byte post_age[SLOTS];               /* since the bytes left; then since the acceptance */
bool post_account[SLOTS];
bool post_misdated[SLOTS];          /* its intent bears a time so late that the positive control is met too early */
bool post_known[SLOTS];             /* some entry holds its request id */
byte accepted;

/* The workers. */
bool current[WORKERS];              /* the entry is as this worker read it: what a compare-and-set asks for */
byte timer[WORKERS];
byte bound[WORKERS];                /* the timer stops here; 0: it does not run */
bool sending[WORKERS];              /* between the check of the age and the bytes leaving */
bool announced[WORKERS];            /* its intent is written, and its POST may still leave */
bool posted_again[WORKERS];         /* this attempt's one more POST after a proof of absence has left */
bool my_account[WORKERS];
#ifdef WALL_CLOCK
short wall[WORKERS];                /* error of the wall clock */
bool stepped;
#define WALL wall[w]
#define SLACK (STEP_BACK + STEP_FORWARD)
#else
#define WALL 0
#define SLACK 0
#endif
byte ended;
#ifdef CALM
bool waiting[WORKERS];
#define WAIT waiting[w] = true
#define GO   waiting[w] = false
#else
#define WAIT skip
#define GO   skip
#endif
hidden byte i;

#ifdef ACCOUNT_IN_NAME
#define NAME my_account[w]
#else
#define NAME 0
#endif

#ifdef NO_COMPARE_AND_SET
#define UNCHANGED true
#else
#define UNCHANGED current[w]
#endif

#ifdef CALM
#define MAY_REFUSE false            /* else there is no end */
#else
#define MAY_REFUSE true
#endif

/* To stop for ever is to die, so the searches for a second payment leave it out. Those for a deadlock have it. */
#ifdef DEATHS
#define DIES true
#else
#define DIES false
#endif

#define STOP_TIMER      timer[w] = 0; bound[w] = 0
#define START_TIMER(to) timer[w] = 0; bound[w] = to

inline written() {
  i = 0;
  do
  :: i < WORKERS ->
#ifdef ACCOUNT_IN_NAME
     if :: my_account[i] == my_account[w] -> current[i] = false :: else fi;
#else
     current[i] = false;
#endif
     i++
  :: else -> break
  od;
  i = 0;
  current[w] = true
}

/* A paid request is known to the entry, or the entry says that there may be one. */
#define REMEMBERED(k) (post[k] != ACCEPTED || post_known[k] || state[0] == IN_DOUBT || state[1] == IN_DOUBT || \
  (state[0] == CLAIMED && intent[0]) || (state[1] == CLAIMED && intent[1]))

inline nothing_forgotten() {
#if !defined(OUTSIDE) && !defined(PAID_TWICE_ONLY)
  i = 0;
  do
  :: i < SLOTS -> assert(REMEMBERED(i)); i++
  :: else -> break
  od;
  i = 0
#else
  skip
#endif
}

#define LISTED(k) (post[k] == ACCEPTED && post_account[k] == my_account[w] && !post_known[k])

#if defined(NO_POSITIVE_CONTROL) || defined(LIST_HIDES)
#define MUST_SHOW(k) false
#else
#define MUST_SHOW(k) (LISTED(k) && post_age[k] >= LIST_LAG && !post_misdated[k])
#endif

/* One reading of the list with its positive control: a reading that hides or is empty fails the control. */
inline scan() {
  if
  :: LISTED(0) -> finding = FOUND; hit = 0
  :: LISTED(1) -> finding = FOUND; hit = 1
  :: LISTED(2) -> finding = FOUND; hit = 2
  :: LISTED(3) -> finding = FOUND; hit = 3
  :: LISTED(4) -> finding = FOUND; hit = 4
  :: LISTED(5) -> finding = FOUND; hit = 5
  :: !(MUST_SHOW(0) || MUST_SHOW(1) || MUST_SHOW(2) || MUST_SHOW(3) || MUST_SHOW(4) || MUST_SHOW(5)) -> finding = ABSENT
  :: finding = INCONCLUSIVE
  fi
}

#ifdef NO_LEASE
#define OWNER_GONE true
#else
#define SAME_TASK(v) ((v) == 0 || (v) == RETRY)
#ifdef EITHER_TRY_SUPERSEDES
#define SUPERSEDES (SAME_TASK(w) && SAME_TASK(owner[NAME]))
#else
#define SUPERSEDES (owner[NAME] == w || (w == RETRY && owner[NAME] == 0))
#endif
#define OWNER_GONE (gone || (polled && timer[w] >= LEASE) || SUPERSEDES)
#endif


#ifdef AGE_BY_WALL_CLOCK
#define INTENT_AGE (timer[w] + WALL - clock_then)
#else
#define INTENT_AGE timer[w]
#endif

#ifdef INTERVAL_BY_WALL_CLOCK
#define SINCE_FIRST_SCAN (timer[w] + WALL - clock_then)
#else
#define SINCE_FIRST_SCAN timer[w]
#endif

#define UNRESOLVED(k) (post[k] == FLYING)
#define URGENT(k)     (post[k] == FLYING && post_age[k] >= LONGEST_POST)
#define AGEING(k)     ((post[k] == FLYING && post_age[k] < LONGEST_POST) || (post[k] == ACCEPTED && !post_known[k] && post_age[k] < LIST_LAG))
#define RUNS(v)       (timer[v] < bound[v])
#define MUST_SEND(v)  (sending[v] && timer[v] >= bound[v])
#ifdef CALM
/* Nobody freezes: time waits for whoever has something to do. */
#define BUSY(v)       (!waiting[v] || (bound[v] > 0 && timer[v] >= bound[v]))
#else
#define BUSY(v)       false
#endif
#if WORKERS == 3
#define ANY_WORKER(p) (p(0) || p(1) || p(2))
#else
#define ANY_WORKER(p) (p(0) || p(1))
#endif
#define ANY_POST(p)   (p(0) || p(1) || p(2) || p(3) || p(4) || p(5))

#ifdef NO_SECOND_SCAN
#define PROVEN true
#else
#define PROVEN (scanned && SINCE_FIRST_SCAN >= ABSENCE_CONFIRM_INTERVAL)
#endif

#ifdef NO_REPEAT_LIMIT
#define MAY_POST true
#else
#define MAY_POST (!(doubted[NAME] || proof) || !posted_again[w])
#endif

/* Long after the last intent. */
#define LIVE(v)       (announced[v])
#ifdef LATER_SCAN_AT_ONCE
#define QUIET true
#else
#define QUIET (!ANY_POST(UNRESOLVED) && !ANY_POST(AGEING) && !ANY_WORKER(LIVE))
#endif

proctype worker(byte w) {
  byte mine, hit;
  bool polled, gone, scanned, proof;
  short clock_then;
  mtype:finding finding;

read:
  atomic {
    GO;
    if
    :: !current[w] ->
       current[w] = true; polled = false; gone = false;
#ifndef SCAN_OUTLIVES_ENTRY
       scanned = false;
       STOP_TIMER;
#endif
    :: else
    fi;
    proof = false;
    if
#ifndef NO_ACCOUNT_CHECK
    :: state[NAME] != NONE && account[NAME] != my_account[w] -> goto stop
    :: state[NAME] == NONE || account[NAME] == my_account[w] ->
#else
    :: true ->
#endif
       if
       :: state[NAME] == NONE || state[NAME] == FAILED -> goto claim
       :: state[NAME] == SUBMITTED -> goto done
       :: state[NAME] == IN_DOUBT -> goto settle
       :: state[NAME] == CLAIMED ->
          if
          :: OWNER_GONE ->
             gone = true;
             if
#ifndef NO_INTENT
             :: intent[NAME] -> goto settle
             :: !intent[NAME] -> goto claim
#else
             :: goto claim
#endif
             fi
          :: else -> polled = true; START_TIMER(LEASE); goto follow
          fi
       fi
    fi
  }

follow:
  atomic {
    WAIT;
    (timer[w] >= LEASE || !current[w]) -> goto read
  }

claim:
  if
  :: atomic {
       UNCHANGED && MAY_POST ->
       written();
       state[NAME] = CLAIMED; owner[NAME] = w; intent[NAME] = false; account[NAME] = my_account[w];
       if :: proof -> doubted[NAME] = true; scan_due[NAME] = true :: else fi;
       proof = false; scanned = false; polled = false; gone = false;
       STOP_TIMER;
       nothing_forgotten()
     }
  :: atomic { !UNCHANGED -> goto read }
  :: atomic { UNCHANGED && !MAY_POST -> goto give_up }
  :: DIES -> goto give_up
  fi;

#ifndef CALM
  if :: skip :: goto read fi;       /* the ledger's answer was lost */
#endif

connect:
#ifdef CALM
  atomic { START_TIMER(CONNECT); WAIT }
  atomic { timer[w] >= CONNECT -> GO; STOP_TIMER }
#else
  if :: skip :: goto stop fi;       /* of any length; or there is no connection */
#endif

announce:
  atomic { START_TIMER(MAX_INTENT_AGE + 1 + SLACK); clock_then = WALL }
  if
#ifdef INTENT_WRITE_UNCHECKED
  :: atomic { !current[w] -> goto check }
#else
  :: atomic { !UNCHANGED -> STOP_TIMER; goto read }
#endif
  :: atomic { UNCHANGED -> written(); intent[NAME] = true; announced[w] = true }
  :: DIES -> STOP_TIMER; goto stop
  fi;
#ifndef CALM
  if :: skip :: announced[w] = false; STOP_TIMER; goto read fi;
#endif
#ifdef AGE_FROM_RETURN
  atomic { START_TIMER(MAX_INTENT_AGE + 1 + SLACK); clock_then = WALL }
#endif

check:
  atomic {
    if
#ifdef NO_AGE_CHECK
    :: skip
#else
    :: INTENT_AGE <= MAX_INTENT_AGE
    :: INTENT_AGE > MAX_INTENT_AGE -> announced[w] = false; STOP_TIMER; goto clear
#endif
    fi;
    sending[w] = true;
#ifdef CONNECT_AFTER_INTENT
    START_TIMER(PAUSE + CONNECT)
#else
    START_TIMER(PAUSE)
#endif
  }

send:
  if
  :: atomic {
       sending[w] = false; announced[w] = false; STOP_TIMER;
       mine = 2 * w;
       if :: post[mine] != NO_POST -> mine++ :: else fi;
       assert(post[mine] == NO_POST);
       posted_again[w] = posted_again[w] || doubted[NAME];
       post[mine] = FLYING; post_age[mine] = 0; post_account[mine] = my_account[w];
#if STEP_FORWARD > CLOCK_MARGIN
       /* The time that the intent bears: the wall clock is read for nothing else. */
       if :: post_misdated[mine] = true :: true fi;
#endif
       clock_then = 0
     }
  :: atomic { true -> sending[w] = false; announced[w] = false; STOP_TIMER; goto stop }
  fi;
  atomic { WAIT }

answer:
  if
  :: atomic { post[mine] == ACCEPTED -> GO; goto note }
  :: atomic { post[mine] == FLYING && MAY_REFUSE ->              /* 429 or 503 of the service's own */
       GO; post[mine] = NO_POST; posted_again[w] = false; mine = 0; goto clear }
  :: atomic { post[mine] == FLYING -> GO; post[mine] = NO_POST; posted_again[w] = false; mine = 0; goto reject }
#ifdef GATEWAY_IS_REFUSAL
  :: atomic { true -> GO; mine = 0; goto clear }                           /* 503 of whoever stands before the service */
#endif
#ifdef RETRIED_POST
  :: atomic { true -> GO; goto send }                            /* by the HTTP library */
#endif
  :: atomic { true -> GO; mine = 0; goto doubt }                           /* lost, too late, or a gateway's */
  :: atomic { DIES -> GO; goto stop }
  fi;

clear:                              /* nothing was accepted: the claim stays */
  if
  :: atomic { UNCHANGED -> written(); intent[NAME] = false; nothing_forgotten(); goto connect }
  :: atomic { !UNCHANGED -> goto read }
  :: DIES -> goto stop
  fi;

reject:
  if
  :: atomic { UNCHANGED -> written(); state[NAME] = FAILED; intent[NAME] = false; nothing_forgotten() }
  :: atomic { !UNCHANGED }
  :: DIES
  fi;
  goto stop;

doubt:
  if
  :: atomic { UNCHANGED -> written(); state[NAME] = IN_DOUBT; goto read }
  :: atomic { !UNCHANGED -> goto read }
  :: DIES -> goto stop
  fi;

settle:
#ifdef NO_FIRST_SCAN
  if
  :: atomic { !scanned -> scanned = true; START_TIMER(ABSENCE_CONFIRM_INTERVAL); goto between_scans }
  :: atomic { scanned }
  fi;
#endif
  atomic {
    scan();
    if
    :: finding == FOUND -> goto adopt
    :: finding == INCONCLUSIVE -> goto give_up
    :: finding == ABSENT && !PROVEN -> scanned = true; START_TIMER(ABSENCE_CONFIRM_INTERVAL + SLACK); clock_then = WALL
    :: finding == ABSENT && PROVEN -> proof = true; goto claim
    fi
  }

between_scans:
  atomic {
    WAIT;
    (SINCE_FIRST_SCAN >= ABSENCE_CONFIRM_INTERVAL || !current[w]) -> goto read
  }

give_up:                            /* an error that says what a person can do; the entry stays in doubt */
  atomic { STOP_TIMER; goto stop }

adopt:
  if
  :: atomic {
       UNCHANGED ->
       written(); STOP_TIMER;
       state[NAME] = SUBMITTED; intent[NAME] = false; post_known[hit] = true; scan_due[NAME] = true;
       nothing_forgotten(); goto done
     }
  :: atomic { !UNCHANGED -> goto read }
  :: DIES -> STOP_TIMER; goto stop
  fi;

note:
  if
  :: atomic {
       UNCHANGED ->
       written();
       state[NAME] = SUBMITTED; intent[NAME] = false; post_known[mine] = true;
       nothing_forgotten(); goto done
     }
  :: atomic {                       /* somebody took the claim over: the clip's, or a duplicate */
       !UNCHANGED ->
       if
       :: post_known[mine]
       :: !post_known[mine] ->
          written(); post_known[mine] = true;
          if
          :: state[NAME] == IN_DOUBT || (state[NAME] == CLAIMED && (owner[NAME] == w || !intent[NAME])) ->
             state[NAME] = SUBMITTED; intent[NAME] = false
          :: else
          fi
       fi;
       nothing_forgotten(); goto done
     }
  :: DIES -> goto stop
  fi;

done:
#if defined(OUTSIDE) && !defined(NO_LATER_SCAN)
  if
  :: atomic {                       /* the clip is finished: long after the POST */
       scan_due[NAME] && QUIET ->
       i = 0;
       do
       :: i < SLOTS -> if :: post[i] == ACCEPTED -> post_known[i] = true :: else fi; i++
       :: else -> break
       od;
       i = 0;
       written(); scan_due[NAME] = false
     }
  :: atomic { !scan_due[NAME] }
  :: DIES
  fi;
#endif

stop:
  atomic { STOP_TIMER; WAIT; mine = 0; hit = 0; scanned = false; polled = false; gone = false; clock_then = 0; ended++ }
}

/* Whoever ends with the clip makes the scan that is owed, unless it dies. */
#ifdef DEATHS
#define SCAN_STILL_OWED true
#else
#define SCAN_STILL_OWED (state[0] != SUBMITTED)
#endif

/* The service, the network and the clocks. Time passes only where somebody waits for it: a deadlock shows. */
proctype world() {
  do
  :: atomic {
       (ANY_WORKER(RUNS) || ANY_POST(AGEING)) &&
       !ANY_POST(URGENT) && !ANY_WORKER(MUST_SEND) && !ANY_WORKER(BUSY) ->
       i = 0;
       do
       :: i < WORKERS -> if :: timer[i] < bound[i] -> timer[i]++ :: else fi; i++
       :: else -> break
       od;
       i = 0;
       do
       :: i < SLOTS -> if :: AGEING(i) -> post_age[i]++ :: else fi; i++
       :: else -> break
       od;
       i = 0
     }
  :: atomic {
       ANY_POST(UNRESOLVED) ->
       if
       :: UNRESOLVED(0) -> i = 0
       :: UNRESOLVED(1) -> i = 1
       :: UNRESOLVED(2) -> i = 2
       :: UNRESOLVED(3) -> i = 3
       :: UNRESOLVED(4) -> i = 4
       :: UNRESOLVED(5) -> i = 5
       fi;
       post_age[i] = 0;
       if
       :: post[i] = ACCEPTED; accepted++; assert(accepted <= MAX_ACCEPTED)
       :: post[i] = NO_POST; post_misdated[i] = false; post_account[i] = false
       fi;
       i = 0;
       nothing_forgotten()
     }
#ifdef WALL_CLOCK
  :: atomic {
       !stepped && ended < WORKERS -> stepped = true;
       if :: i = 0 :: i = 1
#if WORKERS == 3
       :: i = 2
#endif
       fi;
       if :: wall[i] = STEP_FORWARD :: wall[i] = -STEP_BACK fi;
       i = 0
     }
#endif
  :: atomic {
       ended == WORKERS && !ANY_POST(UNRESOLVED) ->
#ifdef OUTSIDE
       /* Outside of the envelope as well: what was paid for is known, in doubt, or a scan for it is owed. */
       i = 0;
       do
       :: i < SLOTS -> assert(REMEMBERED(i) || (scan_due[0] && SCAN_STILL_OWED)); i++
       :: else -> break
       od;
       i = 0;
#endif
       break
     }
  od
}

init {
  atomic {
#ifdef ACCOUNTS
    if :: true :: my_account[1] = true
#if WORKERS == 3
    :: my_account[2] = true
#endif
    fi;
#endif
    run worker(0); run worker(1);
#if WORKERS == 3
    run worker(2);
#endif
    run world()
  }
}

#ifdef CALM
ltl everybody_ends { <> (ended == WORKERS) }
#endif
