using System;
using System.Collections.Generic;

namespace LogonEvidence
{
    /// <summary>Says yes or no to one sign-in or launch.</summary>
    public interface IEvidenceDecider
    {
        /// <summary>Never null, and never throws: whatever goes wrong is an answer that denies.</summary>
        EvidenceAnswer Decide(EvidenceQuestion question);
    }

    /// <summary>What FAS knows of one sign-in or launch. Only <see cref="Upn"/> and <see cref="Evidence"/> are needed;
    /// what is not known stays null.</summary>
    public sealed class EvidenceQuestion
    {
        /// <summary>The one type of evidence that StoreFront sends.</summary>
        public const string SamlResponse = "SAMLResponse";

        /// <summary>The UPN that FAS is about to assert.</summary>
        public string Upn;

        /// <summary>Pairs of type and raw bytes, as FAS passes them. Only values of the type
        /// <see cref="SamlResponse"/> leave this machine.</summary>
        public IList<KeyValuePair<string, byte[]>> Evidence;

        /// <summary>"prepare" (StoreFront sign-in), "assert" (launch) or null.</summary>
        public string Phase;

        public string Sid;
        public string Rule;
        public string SecurityContext;
        public string Disposition;

        /// <summary>The StoreFront server that asked FAS.</summary>
        public string StoreFront;

        /// <summary>Ties this question to log lines elsewhere.</summary>
        public string CorrelationId;
    }

    /// <summary>Yes or no. <see cref="Allowed"/> is true only where the service answered a clear yes to this
    /// very question.</summary>
    public sealed class EvidenceAnswer
    {
        readonly bool _allowed;

        EvidenceAnswer(bool allowed)
        {
            _allowed = allowed;
        }

        /// <summary>The only thing that FAS has to obey.</summary>
        public bool Allowed { get { return _allowed; } }

        /// <summary>The rule to continue with; null: as asked. Null in a deny.</summary>
        public string Rule { get; private set; }

        /// <summary>The security context to continue with; null: as asked. Null in a deny.</summary>
        public string SecurityContext { get; private set; }

        /// <summary>The reason code of the service, or the code of <see cref="Failure"/>.</summary>
        public string Reason { get; private set; }

        /// <summary>The record of the service (fas-evidence explain ID); empty where there is none.</summary>
        public string DecisionId { get; private set; }

        /// <summary>The id of the question; empty where none was put.</summary>
        public string RequestId { get; private set; }

        /// <summary>The service would have denied, but only watches for now (observe mode).</summary>
        public bool Observed { get; private set; }

        /// <summary>What went wrong here, or <see cref="LogonEvidence.Failure.None"/> where the service decided.</summary>
        public Failure Failure { get; private set; }

        /// <summary>The service address that the answer, or the last failure, came from; null where none was asked.</summary>
        public Uri Service { get; private set; }

        /// <summary>One line for an administrator about <see cref="Failure"/>; never evidence.</summary>
        public string Detail { get; private set; }

        internal static EvidenceAnswer Of(WireAnswer said, Uri service)
        {
            bool allowed = said.Decision == WireAnswer.Allow;
            return new EvidenceAnswer(allowed)
            {
                Rule = allowed ? said.Rule : null,
                SecurityContext = allowed ? said.SecurityContext : null,
                Reason = said.Reason,
                DecisionId = said.DecisionId,
                RequestId = said.RequestId,
                Observed = said.Mode == WireAnswer.Observe,
                Failure = Failure.None,
                Service = service,
                Detail = "",
            };
        }

        internal static EvidenceAnswer Denied(Failure failure, string requestId, Uri service, string detail)
        {
            return new EvidenceAnswer(false)
            {
                Reason = FailClosed.Code(failure),
                DecisionId = "",
                RequestId = requestId ?? "",
                Failure = failure,
                Service = service,
                Detail = detail ?? "",
            };
        }
    }
}
